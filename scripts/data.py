"""Looks after datasets: `python scripts/data.py action=info|verify|import|merge|delete data=data/lift`."""

from robopolicy.command import command
from robopolicy.jobs.data import data

if __name__ == "__main__":
    command("data")(data)()
