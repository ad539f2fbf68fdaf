"""Runs the real scripts in processes of their own, and checks how they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
NO_GL = {"MUJOCO_GL": "glfw", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
"""An environment in which no GL back end works: a window system that is not there."""

TINY = (
    "training.steps=20",
    "training.batch_size=32",
    "training.warmup_steps=2",
    "training.precision=32-true",
    "net.width=32",
    "net.blocks=1",
    "held_out=0.2",
)
"""A training that takes a second."""


def run_script(
    name: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python scripts/<name>.py <arguments>` in the folder `cwd`."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def output_of(name: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a script that must succeed prints."""
    run = run_script(name, *arguments, cwd=cwd, environment=environment)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    return run.stdout


def refusal_of(name: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """The sentence of a script that must refuse: all of its standard error, and nothing is left behind in `cwd`."""
    before = _files(cwd)
    run = run_script(name, *arguments, cwd=cwd, environment=environment)
    assert run.returncode == 1, f"{run.stdout}\n{run.stderr}"
    assert run.stderr.startswith("error: "), run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert _files(cwd) == before
    return run.stderr.removeprefix("error: ").strip()


def _files(folder: Path) -> dict[Path, bytes]:
    """Every file and (empty) folder; the index of a dataset is a cache that may come and go."""
    paths = [path for path in folder.rglob("*") if path.name != "index.json"]
    return {path: path.read_bytes() if path.is_file() else b"" for path in paths}
