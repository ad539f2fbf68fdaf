"""The GL probe: a process of its own, the user's choice respected, a sentence that names what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from robopolicy.errors import RenderingError
from sim import gl


def fake_backends(monkeypatch: pytest.MonkeyPatch, failures: dict[str, str | None], choice: str = "") -> list[str]:
    """Replaces the real attempts; returns the list in which their names land."""
    tried: list[str] = []

    def attempt(name: str) -> str | None:
        tried.append(name)
        return failures[name]

    monkeypatch.setattr(gl, "try_backend", attempt)
    monkeypatch.setattr(gl, "USER_CHOICE", choice)
    monkeypatch.setenv("MUJOCO_GL", choice)
    return tried


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=settings | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_takes_the_first_that_works_and_tells_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fake_backends(monkeypatch, {"egl": "no library", "osmesa": None, "glfw": None})
    assert gl.probe_gl().name == "osmesa"
    assert tried == ["egl", "osmesa"]
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_tries_only_what_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fake_backends(monkeypatch, {"egl": None, "glfw": "no display"}, choice="glfw")
    with pytest.raises(RenderingError, match="glfw: no display.*unset MUJOCO_GL"):
        gl.probe_gl()
    assert tried == ["glfw"]


def test_none_that_works_is_one_sentence_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_backends(monkeypatch, {"egl": "a", "osmesa": "b", "glfw": "c"})
    with pytest.raises(RenderingError) as caught:
        gl.probe_gl()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in ("egl: a", "osmesa: b", "glfw: c", "libegl1", "libosmesa6"):
        assert word in sentence


def test_the_report_is_one_line_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_backends(monkeypatch, {"egl": "a", "osmesa": None, "glfw": "c"})
    assert gl.report() == "osmesa draws here"
    fake_backends(monkeypatch, {"egl": "a", "osmesa": "b", "glfw": "c"})
    assert gl.report().startswith("no GL back end draws on this machine (egl: a; osmesa: b; glfw: c): ")
    assert "libegl1" in gl.report()


def test_a_back_end_is_tried_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", "first\nlast line")

    real: Callable[[str], str | None] = gl.try_backend
    monkeypatch.setattr(subprocess, "run", run)
    try:
        gl.try_backend.cache_clear()
        assert real("osmesa") == real("osmesa") == "last line"
        assert len(calls) == 1
    finally:
        gl.try_backend.cache_clear()


def test_a_back_end_that_crashes_or_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    gl.try_backend.cache_clear()
    monkeypatch.setattr(gl, "_DRAWING", "import os; os.abort()")
    assert gl.try_backend("egl") == "the process ended with status -6"
    monkeypatch.setattr(gl, "_DRAWING", "import time; time.sleep(30)")
    monkeypatch.setattr(gl, "_TIMEOUT_S", 0.5)
    assert gl.try_backend("glfw") == "no answer in 0.5 s"
    gl.try_backend.cache_clear()


@pytest.mark.parametrize("choice", ["bogus", "osmesa"])
def test_stepping_never_needs_gl_and_drawing_says_what_is_wrong(choice: str) -> None:
    """With a value that MuJoCo refuses, and with one whose library may be missing."""
    code = (
        "from robopolicy.errors import RenderingError\n"
        "from sim.reach import make_robot\n"
        "robot = make_robot(); robot.reset(0); robot.clock.sleep_until(10**8); print('stepped')\n"
        "try:\n    print(robot.render().shape); robot.close()\n"
        "except RenderingError as error:\n    print(error)\n"
    )
    run = run_python(code, MUJOCO_GL=choice)
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    assert first == "stepped"
    if choice == "bogus":
        assert second == "MUJOCO_GL is 'bogus', expected egl, osmesa, glfw or nothing: unset it"
    else:
        assert second == "(96, 96, 3)" or "libosmesa6" in second


def test_importing_the_simulations_leaves_the_users_choice_alone() -> None:
    code = "import os, sim.lift, sim.reach; print(os.environ.get('MUJOCO_GL'))"
    assert run_python(code).stdout.strip() == "None"
    assert run_python(code, MUJOCO_GL="osmesa").stdout.strip() == "osmesa"
