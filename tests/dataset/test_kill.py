"""A recording process dies at random moments; what it had committed must be there and nothing else must matter."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest
from recordings import CAMERA_SPEC, record_for_ever

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.edit import verify
from robopolicy.dataset.layout import episode_name

KILLS = 40


def test_killed_at_random_points_a_dataset_keeps_every_committed_episode(tmp_path: Path) -> None:
    path, log = tmp_path / "d", tmp_path / "committed.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robopolicy.dataset.dataset"])
    chance = random.Random(0)
    halves = 0
    for _ in range(KILLS):
        worker = context.Process(target=record_for_ever, args=(path, log))
        worker.start()
        rows_before = _lines(log)
        while _lines(log) == rows_before and worker.is_alive():
            time.sleep(0.001)  # it works: from here on the kill may hit anything
        time.sleep(chance.uniform(0.0, 0.05))
        worker.kill()
        worker.join()
        assert worker.exitcode == -9
        halves += _check(path, log)
    assert halves > 0, "no kill hit a recording: the test proves nothing"
    report = verify(path)
    assert report.ok, report.problems
    assert report.episodes >= KILLS


def _check(path: Path, log: Path) -> int:
    """How many half episodes there are, after checking all that was promised."""
    dataset = Dataset.open(path)
    numbers = [episode.number for episode in dataset.episodes]
    promised = [int(line) for line in log.read_text().split()]
    assert numbers == list(range(len(numbers)))
    assert promised == sorted(set(promised))
    assert set(promised) <= set(numbers)
    newest = dataset.episodes[-1]
    assert newest.read("observation/front").shape == (newest.length, *CAMERA_SPEC.observations["front"].shape)
    half = {file.name for file in dataset.unfinished}
    assert half <= {episode_name(number) + ".partial" for number in range(len(numbers) + 1)}
    return len(half)


def _lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


@pytest.fixture(autouse=True)
def _no_threads_in_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
