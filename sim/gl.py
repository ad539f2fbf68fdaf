"""Which GL back end draws here, found by trying each in a process of its own.

A back end whose library is missing fails on import or takes the process with it. MuJoCo and robosuite read `MUJOCO_GL`
when they are imported, fail on some values and overwrite others, so the user's choice is read here and MuJoCo is
imported here first, without GL: the simulations step on a machine that has none at all.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from robopolicy.errors import RenderingError

CHOICES = ("egl", "osmesa", "glfw")
USER_CHOICE = os.environ.get("MUJOCO_GL", "").strip().lower()
"""What the user had set before anything of the simulators was imported; empty when nothing."""

_TIMEOUT_S = 60.0
_INSTALL = "on Debian install libegl1 and libgl1-mesa-dri (for egl) or libosmesa6 (for osmesa)"
_DRAWING = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 2'/><geom size='0.2' rgba='1 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
picture = renderer.render()
renderer.close()
raise SystemExit(0 if picture.max() > 0 else "the picture is black")
"""


@contextmanager
def user_choice_kept() -> Iterator[None]:
    """Imports inside find rendering switched off, and whatever they make of `MUJOCO_GL` is undone."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "off"
    try:
        yield
    finally:
        os.environ.pop("MUJOCO_GL")
        if before is not None:
            os.environ["MUJOCO_GL"] = before


with user_choice_kept():
    importlib.import_module("mujoco")


@dataclass(frozen=True)
class GlBackend:
    """A back end that drew a scene on this machine, by its `MUJOCO_GL` name."""

    name: str

    def context_class(self) -> Callable[[int, int], Any]:
        """MuJoCo's context of this back end: called with (width, height), has `make_current` and `free`."""
        if self.name != "glfw":
            os.environ["PYOPENGL_PLATFORM"] = self.name
        context: Callable[[int, int], Any] = importlib.import_module(f"mujoco.{self.name}").GLContext
        return context


def probe_gl() -> GlBackend:
    """The first back end that works, probed once per process; also sets `MUJOCO_GL` for child processes.

    A back end that the user has chosen is the only one tried. Raises RenderingError, which names what to install.
    """
    if USER_CHOICE not in (*CHOICES, ""):
        raise RenderingError(f"MUJOCO_GL is '{USER_CHOICE}', expected {', '.join(CHOICES)} or nothing: unset it")
    candidates = (USER_CHOICE,) if USER_CHOICE else CHOICES
    failures = {}
    for name in candidates:
        failure = try_backend(name)
        if failure is None:
            os.environ["MUJOCO_GL"] = name
            return GlBackend(name)
        failures[name] = failure
    tried = "; ".join(f"{name}: {why}" for name, why in failures.items())
    hint = "unset MUJOCO_GL to try the others, or " if USER_CHOICE else ""
    raise RenderingError(f"no GL back end draws on this machine ({tried}): {hint}{_INSTALL}")


def report() -> str:
    """One line for `doctor.py`: the back end that draws here, else the sentence that says what to install."""
    try:
        return f"{probe_gl().name} draws here"
    except RenderingError as error:
        return str(error)


@cache
def try_backend(name: str) -> str | None:
    """Draws a tiny scene with back end `name` in a process of its own; None when it worked, else why not."""
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = name
    try:
        run = subprocess.run(
            [sys.executable, "-c", _DRAWING],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_TIMEOUT_S:g} s"
    if run.returncode == 0:
        return None
    lines = run.stderr.strip().splitlines()
    return lines[-1][:120] if lines else f"the process ended with status {run.returncode}"
