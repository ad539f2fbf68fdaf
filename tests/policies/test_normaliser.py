import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.dataset.statistics import Statistics
from robopolicy.errors import CheckpointError, DatasetError
from robopolicy.policies.normaliser import Normaliser, SpecNormaliser
from robopolicy.spec import ArraySpec, Part, RobotSpec


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=20))
def test_data_map_into_the_unit_box_and_back(rows: list[tuple[float, float]]) -> None:
    data = np.array(rows)
    normaliser = Normaliser.fit(ArraySpec((2,)), Statistics.of(data), "action")
    values = torch.as_tensor(data, dtype=torch.float32)
    normalised = normaliser(values)
    assert float(normalised.abs().max()) <= 1 + 1e-3
    torch.testing.assert_close(normaliser.inverse(normalised), values, atol=1e-3, rtol=1e-5)


def test_extremes_become_one_and_a_constant_becomes_zero_and_back() -> None:
    data = np.array([[-2.0, 7.0], [6.0, 7.0]])
    normaliser = Normaliser.fit(ArraySpec((2,)), Statistics.of(data), "action")
    normalised = normaliser(torch.as_tensor(data, dtype=torch.float32))
    assert normalised.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert normaliser.inverse(torch.zeros(1, 2)).tolist() == [[2.0, 7.0]]


def test_rotations_are_left_alone() -> None:
    spec = ArraySpec((7,), parts=(Part("position", 1, "position"), Part("rotation", 6, "rotation_6d")))
    data = np.array([[0.0, 1, 0, 0, 0, 1, 0], [4.0, 0.9, 0.1, 0, 0, 1, 0]])
    normaliser = Normaliser.fit(spec, Statistics.of(data), "action")
    assert normaliser.scale.tolist() == [2, 1, 1, 1, 1, 1, 1]
    assert normaliser.offset.tolist() == [2, 0, 0, 0, 0, 0, 0]


def _spec() -> RobotSpec:
    return RobotSpec("r", {"a": ArraySpec((2,)), "b": ArraySpec((1,))}, ArraySpec((2,)), 10.0)


def _statistics() -> dict[str, Statistics]:
    two, one = Statistics.of(np.eye(2)), Statistics.of(np.array([[0.0], [1.0]]))
    return {"action": two, "observation/a": two, "observation/b": one}


def test_a_missing_statistic_is_an_error() -> None:
    statistics = _statistics()
    del statistics["observation/b"]
    with pytest.raises(DatasetError, match="no statistics of 'observation/b'"):
        SpecNormaliser.fit(_spec(), statistics)


def test_a_misshaped_statistic_is_an_error() -> None:
    with pytest.raises(DatasetError, match="'observation/b' have 2 values, expected 1"):
        SpecNormaliser.fit(_spec(), {**_statistics(), "observation/b": Statistics.of(np.eye(2))})


def test_a_missing_stream_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"needs the streams \['b'\]"):
        SpecNormaliser.fit(_spec(), _statistics()).observe({"a": torch.zeros(1, 1, 2)})
