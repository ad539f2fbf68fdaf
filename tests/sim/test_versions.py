"""Versions name every simulator, present or not."""

from __future__ import annotations

import mujoco
import pytest

from sim import versions as module


def test_names_the_installed_simulators_and_the_controller() -> None:
    found = module.versions()
    assert set(found) == {"mujoco", "robosuite", "gym-pusht", "pymunk", "controller"}
    assert found["mujoco"] == mujoco.__version__
    assert "OSC_POSE" in found["controller"]


def test_says_absent_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("no-such-package",))
    assert module.versions()["no-such-package"] == "absent"
