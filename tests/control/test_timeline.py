"""Which target a tick reads: at, between, before, after and across chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robopolicy import rotation
from robopolicy.control.actor import Chunk, chunk_from
from robopolicy.control.timeline import Target, Timeline
from robopolicy.errors import BadActionError
from robopolicy.spec import ArraySpec, Part

LINE = ArraySpec((1,), parts=(Part("x", 1, "position"),))
MIXED = ArraySpec(
    (5,),
    parts=(
        Part("x", 1, "position"),
        Part("dx", 1, "position", "delta"),
        Part("rate", 1, "joint", "rate"),
        Part("gripper", 1, "gripper"),
        Part("finger", 1, "gripper", "delta"),
    ),
)


def line(values: list[float], first_ns: int, source: str = "policy") -> Chunk:
    """One target each 100 ns from `first_ns` on."""
    return chunk_from(np.array(values)[:, None], first_ns - 100, 100, source)


def read(timeline: Timeline, time_ns: int) -> Target:
    target = timeline.read(time_ns)
    assert target is not None
    return target


def test_nothing_before_the_first_chunk() -> None:
    assert Timeline(LINE).read(0) is None


def test_action_zero_is_reached_one_period_after_its_observation() -> None:
    chunk = chunk_from(np.array([[1.0], [2.0]]), 500, 100, "policy", {"energy": 3.0})
    assert chunk.times_ns.tolist() == [600, 700]
    assert chunk.times_ns.dtype == np.int64
    assert chunk.observed_ns == 500
    timeline = Timeline(LINE)
    timeline.add(chunk)
    assert read(timeline, 600).action[0] == 1.0
    assert read(timeline, 600).chunk.info == {"energy": 3.0}


@given(st.integers(0, 300))
def test_between_two_targets_it_is_linear(time_ns: int) -> None:
    timeline = Timeline(LINE)
    timeline.add(line([0.0, 1.0, 3.0, 0.0], 0))
    expected = np.interp(time_ns, [0, 100, 200, 300], [0.0, 1.0, 3.0, 0.0])
    target = read(timeline, time_ns)
    assert target.action[0] == pytest.approx(expected)
    assert not target.exhausted


def test_rotations_take_the_geodesic() -> None:
    spec = ArraySpec((6,), parts=(Part("r", 6, "rotation_6d"),))
    turns = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    timeline = Timeline(spec)
    timeline.add(chunk_from(rotation.convert(turns, "rotation_vector", "rotation_6d"), 0, 100, "policy"))
    matrix = rotation.to_matrix(read(timeline, 125).action, "rotation_6d")
    assert np.allclose(matrix, Rotation.from_rotvec([0, 0, 0.25]).as_matrix())


def test_grippers_and_deltas_are_held_between_targets() -> None:
    timeline = Timeline(MIXED)
    timeline.add(chunk_from(np.array([[0.0] * 5, [1.0] * 5]), 0, 100, "policy"))
    assert np.allclose(read(timeline, 150).action, [0.5, 0, 0, 0, 0])


def test_an_exhausted_timeline_keeps_absolute_parts_and_stops_the_others() -> None:
    timeline = Timeline(MIXED)
    timeline.add(chunk_from(np.full((2, 5), 0.7), 0, 100, "policy"))
    assert not read(timeline, 200).exhausted
    target = read(timeline, 201)
    assert target.exhausted
    assert np.allclose(target.action, [0.7, 0.0, 0.0, 0.7, 0.0])
    assert target.chunk.source == "policy"


def test_a_new_chunk_replaces_the_old_one_at_once() -> None:
    timeline = Timeline(LINE)
    timeline.add(line([1, 1, 1, 1], 100))
    assert read(timeline, 100).action[0] == 1
    timeline.add(line([5, 6], 200, "human"))
    assert read(timeline, 200).action[0] == 5
    assert read(timeline, 300).chunk.source == "human"
    assert read(timeline, 400).exhausted


def test_a_late_chunk_is_entered_where_time_is() -> None:
    """Computed for tick 100 and landed at 300: its first two targets have passed and are not replayed."""
    timeline = Timeline(LINE)
    timeline.add(line([10, 11, 12, 13], 100))
    assert read(timeline, 300).action[0] == 12


def test_until_a_new_chunk_begins_the_old_one_goes_on() -> None:
    timeline = Timeline(LINE)
    timeline.add(line([1, 2, 3, 4, 5], 100))
    timeline.add(line([50, 60], 300))
    assert [read(timeline, time).action[0] for time in (100, 200, 300, 400)] == [1, 2, 50, 60]
    timeline.add(line([7, 8], 600))
    assert read(timeline, 500).exhausted
    assert read(timeline, 600).action[0] == 7


def test_a_chunk_that_begins_earlier_overrules_what_was_planned_later() -> None:
    timeline = Timeline(LINE)
    timeline.add(line([50, 60], 300))
    timeline.add(line([1, 2, 3, 4, 5], 100))
    assert [read(timeline, time).action[0] for time in (100, 300, 500)] == [1, 3, 5]


def test_before_its_only_chunk_the_first_target_waits() -> None:
    timeline = Timeline(LINE)
    timeline.add(line([4, 5], 300))
    assert read(timeline, 100).action[0] == 4


def test_what_is_read_belongs_to_the_reader() -> None:
    timeline = Timeline(LINE)
    chunk = line([1, 2], 100)
    timeline.add(chunk)
    read(timeline, 100).action[:] = 9
    read(timeline, 900).action[:] = 9
    assert chunk.actions.tolist() == [[1], [2]]


@pytest.mark.parametrize("actions", [np.zeros((2, 3)), np.zeros(2), np.zeros((0, 1))])
def test_a_chunk_of_another_shape_is_refused(actions: np.ndarray) -> None:
    chunk = Chunk(actions, np.arange(len(actions)), 0, "script")
    with pytest.raises(BadActionError, match=r"a chunk from 'script' has shape .*, expected \[T, 1\]"):
        Timeline(LINE).add(chunk)


@pytest.mark.parametrize("times", [[0, 0], [1, 0], [0]])
def test_times_must_ascend_one_for_each_action(times: list[int]) -> None:
    with pytest.raises(BadActionError, match="not ascending"):
        Timeline(LINE).add(Chunk(np.zeros((2, 1)), np.array(times), 0, "script"))
