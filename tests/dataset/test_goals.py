"""Goals are values of the same episode, at or after now, and what is drawn is decided by the caller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import CAMERA_SPEC, small_dataset

from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.goals import Goal, goals_from, statistics_with_goals, with_goals
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows
from robopolicy.errors import ConfigError, DatasetError

LENGTHS = [5, 1, 9]
GOALS = {"goal_state": Goal("state"), "later_state": Goal("state", "future"), "goal_front": Goal("front", "future")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("goals") / "d", LENGTHS, CAMERA_SPEC, front="jpeg:90")


@pytest.fixture(scope="module")
def windows(dataset: Dataset) -> Windows:
    return Windows(dataset, observations=["state"], observation_steps=2, horizon=3, goals=GOALS)


@given(st.data())
def test_a_future_row_lies_from_now_to_the_end_and_a_last_row_at_it(data: st.DataObject) -> None:
    stop = data.draw(st.integers(1, 1000))
    step = data.draw(st.integers(0, stop - 1))
    draw = data.draw(st.floats(0, 1, exclude_max=True))
    rows = [np.array([value]) for value in (step, stop)]
    assert step <= Goal("x", "future").rows(*rows, np.array([draw])).item() < stop
    assert Goal("x").rows(*rows, np.array([draw])).item() == stop - 1


def test_every_row_from_now_to_the_end_is_equally_likely() -> None:
    draws = (np.arange(600) + 0.5) / 600
    rows = Goal("x", "future").rows(np.full(600, 4), np.full(600, 10), draws)
    assert np.unique(rows, return_counts=True)[1].tolist() == [100] * 6


def test_goals_are_rows_of_the_windows_own_episode(dataset: Dataset, windows: Windows) -> None:
    indices = np.arange(len(windows))
    for draw in (0.0, 0.6, 0.999):
        batch = windows.batch(indices, np.full(len(indices), draw))
        assert list(batch.observations) == ["state", *GOALS]
        index = 0
        for episode in dataset.episodes:
            states, frames = episode.read("observation/state"), episode.read("observation/front")
            for step in range(episode.length):
                later = step + int(draw * (episode.length - step))
                np.testing.assert_array_equal(batch.observations["goal_state"][index], states[-1:])
                np.testing.assert_array_equal(batch.observations["later_state"][index], states[[later]])
                np.testing.assert_array_equal(batch.observations["goal_front"][index], frames[[later]])
                index += 1


def test_without_draws_a_future_goal_lies_half_way(dataset: Dataset, windows: Windows) -> None:
    states = dataset.episodes[0].read("observation/state")
    later = windows.batch([0, 2, 4]).observations["later_state"]
    np.testing.assert_array_equal(later[:, 0], states[[2, 3, 4]])


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_hand_each_batch_its_draws(windows: Windows, prefetch: int) -> None:
    random = np.random.default_rng(0)
    indices = [random.integers(len(windows), size=4) for _ in range(6)]
    draws = [random.random(4) for _ in range(6)]
    found = list(windows.batches(indices, prefetch, draws))
    assert len(found) == 6
    for batch, index, draw in zip(found, indices, draws, strict=True):
        wanted = windows.batch(index, draw)
        for name in GOALS:
            np.testing.assert_array_equal(batch.observations[name], wanted.observations[name])


def test_goals_change_nothing_else(dataset: Dataset, windows: Windows) -> None:
    plain = Windows(dataset, observations=["state"], observation_steps=2, horizon=3).batch([0, 7, 3])
    batch = windows.batch([0, 7, 3])
    np.testing.assert_array_equal(batch.observations["state"], plain.observations["state"])
    np.testing.assert_array_equal(batch.actions, plain.actions)


def test_a_goal_is_described_and_normalised_as_its_source() -> None:
    seen = with_goals(CAMERA_SPEC.select(["depth"]), CAMERA_SPEC, GOALS)
    assert list(seen.observations) == ["depth", *GOALS]
    assert seen.observations["goal_front"] == CAMERA_SPEC.observations["front"]


def test_statistics_of_a_goal_are_those_of_its_source(dataset: Dataset) -> None:
    statistics = statistics_with_goals(dataset_statistics(dataset.episodes), GOALS)
    assert set(statistics) == {"action", "observation/state", "observation/goal_state", "observation/later_state"}
    assert statistics["observation/later_state"] is statistics["observation/state"]


def test_task_files_are_read_and_mistakes_named(tmp_path: Path) -> None:
    assert goals_from(None) == {}
    assert goals_from({"goal_a": {"stream": "a"}, "goal_b": {"stream": "b", "when": "future"}}) == {
        "goal_a": Goal("a"),
        "goal_b": Goal("b", "future"),
    }
    with pytest.raises(ConfigError, match="task.goals.goal_a is .*stream"):
        goals_from({"goal_a": {"source": "a"}})
    with pytest.raises(ConfigError, match="'soon', expected one of last, future"):
        goals_from({"goal_a": {"stream": "a", "when": "soon"}})
    with pytest.raises(ConfigError, match=r"goal_x.stream is 'x', there are \['depth', 'front', 'state'\]"):
        with_goals(CAMERA_SPEC, CAMERA_SPEC, {"goal_x": Goal("x")})
    with pytest.raises(ConfigError, match="task.goals.state has the name of an observation"):
        with_goals(CAMERA_SPEC, CAMERA_SPEC, {"state": Goal("state")})
    with pytest.raises(DatasetError, match="has no array 'observation/x'"):
        Windows(
            small_dataset(tmp_path / "d", [2]), observations=[], observation_steps=1, horizon=1, goals={"g": Goal("x")}
        )
