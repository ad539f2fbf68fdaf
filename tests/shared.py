"""Where tests find the real demonstrations that are not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """The folder or file `name` of the shared data; skips the test where it is absent."""
    root = Path(os.environ.get("ROBOPOLICY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = root / name
    if not path.exists():
        pytest.skip(f"shared data '{name}' is not here: set ROBOPOLICY_SHARED_DATA to the folder that has it")
    return path
