"""Plays recorded episodes again: `python scripts/replay.py task=pusht data=data/pusht episode=3`."""

from robopolicy.command import command
from robopolicy.jobs.replay import replay

if __name__ == "__main__":
    command("replay")(replay)()
