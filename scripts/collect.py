"""Collects demonstrations: `python scripts/collect.py task=lift episodes=100 out=data/lift`."""

from robopolicy.command import command
from robopolicy.jobs.collect import collect

if __name__ == "__main__":
    command("collect")(collect)()
