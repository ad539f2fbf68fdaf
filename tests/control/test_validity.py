import numpy as np
import pytest

from robopolicy.control.filter import ActionFilter
from robopolicy.control.validity import check_actions
from robopolicy.errors import BadActionError
from robopolicy.spec import ArraySpec, Part

SPEC = ArraySpec((7,), parts=(Part("position", 1, "position"), Part("rotation", 6, "rotation_6d")))
TURN = ArraySpec((4,), parts=(Part("rotation", 4, "quaternion"),))
GOOD = np.array([0.5, 1, 0, 0, 0, 1, 0])


def test_good_actions_pass_unchanged() -> None:
    check_actions(SPEC, np.stack([GOOD, GOOD]), "a chunk")
    assert np.array_equal(ActionFilter(SPEC)(GOOD), GOOD)


@pytest.mark.parametrize(
    "columns", [(0, 0, 0, 0, 1, 0), (1, 0, 0, 2, 0, 0), (1, 0, 0, 0, 0, 0)], ids=["zero", "parallel", "no second"]
)
def test_columns_that_span_no_plane_are_refused(columns: tuple[float, ...]) -> None:
    bad = np.array([0.5, *columns])
    with pytest.raises(BadActionError, match="'rotation' that is no rotation"):
        check_actions(SPEC, np.stack([GOOD, bad]), "a chunk")
    with pytest.raises(BadActionError, match="'rotation' that is no rotation"):
        ActionFilter(SPEC)(bad)


def test_a_zero_quaternion_is_refused() -> None:
    with pytest.raises(BadActionError, match="no rotation"):
        check_actions(TURN, np.zeros(4), "the action")


def test_nan_anywhere_in_a_chunk_is_refused() -> None:
    with pytest.raises(BadActionError, match="not finite"):
        check_actions(SPEC, np.stack([GOOD, GOOD * np.nan]), "a chunk")
