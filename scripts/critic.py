"""Fits a critic to episodes that succeed and fail: `python scripts/critic.py task=reach_mixed data=data/reach_mixed`.

`eval.py critic=<run> candidates=16` then lets it choose among the chunks of a policy.
"""

from __future__ import annotations

from robopolicy.command import command
from robopolicy.jobs.critic import fit_critic

if __name__ == "__main__":
    command("critic")(fit_critic)()
