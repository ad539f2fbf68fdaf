"""Puts a run's figures into docs/results: `scripts/publish.py run=runs/a evaluation=runs/a/evaluation name=a`."""

from robopolicy.command import command
from robopolicy.jobs.publish import publish

if __name__ == "__main__":
    command("publish")(publish)()
