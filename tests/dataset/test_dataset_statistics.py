from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recordings import CAMERA_SPEC, small_dataset

from robopolicy.dataset.statistics import Statistics, dataset_statistics
from robopolicy.errors import DatasetError

ROWS = hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-1e3, 1e3))
FIELDS = ("low", "high", "mean", "std")


def assert_close(a: Statistics, b: Statistics) -> None:
    assert a.count == b.count
    for name in FIELDS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-9, err_msg=name)


@given(st.lists(ROWS, min_size=1, max_size=5))
def test_merging_parts_equals_the_whole(parts: list[np.ndarray]) -> None:
    merged = Statistics.merge(Statistics.of(part) for part in parts)
    whole = np.concatenate(parts)
    assert_close(merged, Statistics.of(whole))
    np.testing.assert_allclose(merged.mean, whole.mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.std, whole.std(0), rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(merged.low, whole.min(0))
    np.testing.assert_array_equal(merged.high, whole.max(0))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 9)), min_size=1, max_size=4))
def test_a_constant_element_has_no_spread_at_all(runs: list[tuple[float, int]]) -> None:
    value = runs[0][0]
    merged = Statistics.merge(Statistics.of(np.full((count, 1), value)) for _, count in runs)
    assert merged.std == 0.0
    assert merged.low == merged.high == merged.mean == value


@given(ROWS)
def test_json_keeps_every_bit(rows: np.ndarray) -> None:
    before = Statistics.of(rows)
    after = Statistics.from_json(json.loads(json.dumps(before.to_json())))
    assert after.count == before.count
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_their_row(bad: float) -> None:
    rows = np.zeros((5, 2))
    rows[3, 1] = bad
    with pytest.raises(DatasetError, match="episode 7, stream 'x' is not finite in row 3"):
        Statistics.of(rows, "episode 7, stream 'x'")


def test_no_rows_have_no_statistics() -> None:
    with pytest.raises(DatasetError, match="no rows"):
        Statistics.of(np.zeros((0, 3)))
    with pytest.raises(DatasetError, match="no episodes"):
        dataset_statistics([])


def test_a_dataset_has_those_of_all_its_rows_and_none_of_images(tmp_path: Path) -> None:
    episodes = small_dataset(tmp_path / "d", [3, 8, 1], CAMERA_SPEC).episodes
    found = dataset_statistics(episodes)
    assert set(found) == {"action", "observation/state"}
    for name, statistics in found.items():
        assert_close(statistics, Statistics.of(np.concatenate([episode.read(name) for episode in episodes])))


def test_episodes_with_other_streams_are_refused(tmp_path: Path) -> None:
    odd = small_dataset(tmp_path / "a", [2]).episodes[0]

    class Without:
        statistics = {"action": odd.statistics["action"]}  # noqa: RUF012

    with pytest.raises(DatasetError, match="observation/state"):
        dataset_statistics([odd, Without()])
