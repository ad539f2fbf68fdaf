"""Fills a table of methods, tasks and training seeds: `python scripts/table.py name=methods minutes=90`."""

from robopolicy.command import command
from robopolicy.jobs.table import table

if __name__ == "__main__":
    command("table")(table)()
