"""What the safety filter lets through, changes and counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from robopolicy import rotation
from robopolicy.control.filter import ActionFilter
from robopolicy.errors import BadActionError, ConfigError
from robopolicy.spec import ArraySpec, Part

BOX = ArraySpec((3,), parts=(Part("position", 3, "position"),), low=(-1.0, -1.0, 0.0), high=(1.0, 1.0, 2.0))
TURN = ArraySpec((6,), parts=(Part("rotation", 6, "rotation_6d"),))
points = st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(np.asarray)


def six(*turn: float) -> NDArray[np.float64]:
    return rotation.convert(turn, "rotation_vector", "rotation_6d")


@given(points)
def test_limits_clip_and_are_counted(action: NDArray[np.float64]) -> None:
    check = ActionFilter(BOX)
    sent = check(action)
    assert np.array_equal(sent, np.clip(action, BOX.low, BOX.high))
    assert check.counts["limited"] == int(not np.array_equal(sent, action))


@given(st.lists(points, min_size=1, max_size=8), st.floats(0.01, 1))
def test_every_step_is_inside_limits_and_step_limit(actions: list[NDArray[np.float64]], limit: float) -> None:
    check = ActionFilter(BOX, {"position": limit})
    sent = [check(action) for action in actions]
    assert all(np.all(s >= BOX.low) and np.all(s <= BOX.high) for s in sent)
    assert all(np.linalg.norm(b - a) <= limit * (1 + 1e-6) for a, b in pairwise(sent))


def test_a_long_step_is_shortened_not_turned() -> None:
    check = ActionFilter(BOX, {"position": 0.5})
    check(np.array([0.0, 0.0, 1.0]))
    assert np.allclose(check(np.array([0.6, 0.8, 1.0])), [0.3, 0.4, 1.0])
    assert check.counts == {"shortened": 1}


def test_a_step_of_exactly_the_limit_passes_unchanged() -> None:
    check = ActionFilter(BOX, {"position": 0.1})
    for x in np.arange(0, 1, 0.1):
        assert check(np.array([x, 0.0, 0.5]))[0] == x
    assert not check.counts


def test_steps_are_measured_from_what_was_sent() -> None:
    check = ActionFilter(BOX, {"position": 0.25})
    check(np.zeros(3))
    positions = [check(np.array([1.0, 0.0, 0.0]))[0] for _ in range(5)]
    assert np.allclose(positions, [0.25, 0.5, 0.75, 1.0, 1.0])
    assert check.counts["shortened"] == 3


def test_rotations_turn_by_at_most_the_limit_on_the_geodesic() -> None:
    check = ActionFilter(TURN, {"rotation": 0.2})
    check(six(0.0, 0.0, 0.0))
    assert np.allclose(check(six(0.0, 1.0, 0.0)), six(0.0, 0.2, 0.0))
    assert np.allclose(check(six(0.0, 0.35, 0.0)), six(0.0, 0.35, 0.0))
    assert check.counts["shortened"] == 1


def test_a_gripper_with_a_step_limit_moves_slowly() -> None:
    check = ActionFilter(ArraySpec((1,), parts=(Part("gripper", 1, "gripper"),)), {"gripper": 0.25})
    check(np.zeros(1))
    assert [check(np.ones(1))[0] for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("mode", ["delta", "rate"])
def test_a_delta_is_a_step_itself(mode: str) -> None:
    """Its norm is limited, from the first action on, whatever was sent before."""
    spec = ArraySpec((2,), parts=(Part("d", 2, "position", mode),))  # type: ignore[arg-type]
    check = ActionFilter(spec, {"d": 1.0})
    assert np.allclose(check(np.array([3.0, 4.0])), [0.6, 0.8])
    assert np.allclose(check(np.array([-0.6, -0.8])), [-0.6, -0.8])
    assert check.counts["shortened"] == 1


def test_parts_are_limited_one_by_one() -> None:
    spec = ArraySpec((2,), parts=(Part("a", 1), Part("b", 1)))
    check = ActionFilter(spec, {"a": 0.1})
    check(np.zeros(2))
    assert np.allclose(check(np.ones(2)), [0.1, 1.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused(bad: float) -> None:
    check = ActionFilter(BOX, {"position": 0.1})
    with pytest.raises(BadActionError, match="is not finite"):
        check(np.array([0.0, bad, 0.0]))
    assert not check.counts


def test_an_action_of_another_shape_is_refused() -> None:
    with pytest.raises(BadActionError, match=r"has shape \(2,\), expected \(3,\)"):
        ActionFilter(BOX)(np.zeros(2))


def test_what_comes_out_is_new() -> None:
    check = ActionFilter(ArraySpec((2,)), {"action": 1.0})
    action = np.zeros(2)
    sent = check(action)
    sent[:] = 7
    assert np.array_equal(action, [0, 0])
    assert np.allclose(check(np.array([0.5, 0.0])), [0.5, 0.0])


def test_integers_and_single_precision_come_out_as_doubles() -> None:
    assert ActionFilter(BOX)(np.array([0, 1, 1])).dtype == np.float64
    assert ActionFilter(BOX)(np.zeros(3, np.float32)).dtype == np.float64


@pytest.mark.parametrize(
    ("part", "limits", "sentence"),
    [
        (Part("x", 2), {"y": 0.1}, r"unknown part 'y', the action has \['x'\]"),
        (Part("x", 2), {"x": 0.0}, "step limit of 'x' is 0.0"),
        (Part("x", 2), {"x": float("nan")}, "step limit of 'x' is nan"),
        (Part("x", 2, discrete=True), {"x": 0.1}, "'x' takes no step limit"),
        (Part("x", 6, "rotation_6d", "delta"), {"x": 0.1}, "'x' takes no step limit"),
    ],
)
def test_impossible_step_limits_are_refused(part: Part, limits: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ActionFilter(ArraySpec((part.size,), parts=(part,)), limits)
