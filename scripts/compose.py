"""Composes trained policies and finds their weights: `python scripts/compose.py runs=[runs/a,runs/b] task=lift_hard`.

The composed policy is a run folder of its own, which eval.py takes like any other. `run_folder=` of an earlier search
continues it.
"""

from robopolicy.command import command
from robopolicy.jobs.compose import compose_runs

if __name__ == "__main__":
    command("compose")(compose_runs)()
