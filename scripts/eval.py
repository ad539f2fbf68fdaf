"""Evaluates a trained policy in simulation: `python scripts/eval.py run=runs/lift episodes=50`."""

from robopolicy.command import command
from robopolicy.jobs.evaluate import evaluate_run

if __name__ == "__main__":
    command("eval")(evaluate_run)()
