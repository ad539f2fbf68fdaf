"""A tiny `reach` dataset and a tiny policy trained on it, made by the scripts themselves, once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import TINY, output_of


@pytest.fixture(scope="session")
def reach_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six demonstrations; not to be changed."""
    folder = tmp_path_factory.mktemp("collected")
    output_of("collect", "task=reach", "episodes=6", "workers=1", "out=reach", "run_folder=run", cwd=folder)
    return folder / "reach"


@pytest.fixture(scope="session")
def reach_run(reach_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty steps of a small network; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    output_of("train", "task=reach", f"data={reach_data}", "run_folder=run", *TINY, cwd=folder)
    return folder / "run"
