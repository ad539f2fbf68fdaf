"""Trains a policy on demonstrations: `python scripts/train.py policy=diffusion task=lift data=data/lift`.

`resume=<run>` alone continues a run that was interrupted, bit for bit on a CPU.
"""

from __future__ import annotations

from robopolicy.command import command
from robopolicy.jobs.train import train

if __name__ == "__main__":
    command("train")(train)()
