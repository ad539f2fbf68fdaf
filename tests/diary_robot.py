"""A reach robot that writes down what happens to it: the processes of a collection have nobody else to tell."""

from __future__ import annotations

import os
from pathlib import Path

from sim.reach import ReachSimulation
from sim.robot import SimRobot

THREADS = os.environ.get("OMP_NUM_THREADS")
"""As it was when this module was imported, which is when numerical libraries look."""


def make_diary_robot(diary: Path) -> SimRobot:
    """A robot that appends a word to `diary` for each event."""
    _write(diary, f"imported-with-{THREADS}")
    return DiaryRobot(diary)


class DiaryRobot(SimRobot):
    """Does what a reach robot does."""

    def __init__(self, diary: Path) -> None:
        super().__init__(ReachSimulation())
        self._diary = diary

    def start(self) -> None:
        _write(self._diary, "started")
        super().start()

    def close(self) -> None:
        _write(self._diary, "closed")
        super().close()


def _write(diary: Path, word: str) -> None:
    with diary.open("a") as file:
        file.write(f"{word}\n")
