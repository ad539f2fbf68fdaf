"""Returns of recorded episodes in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import SPEC, make_dataset

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Outcome, Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.errors import DatasetError
from robopolicy.rl.returns import returns_of, returns_to_go


def test_a_success_is_worth_the_discount_to_the_power_of_the_steps_to_it() -> None:
    success = np.array([False, False, True, False, True, False])
    np.testing.assert_allclose(returns_to_go(success, 0.9), [0.81, 0.9, 1.0, 0.9, 1.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(returns_to_go(success[-1:], 0.9), [0.0])


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0.5, 1.0))
def test_returns_obey_bellmans_equation(flags: list[bool], discount: float) -> None:
    """The episode counts as over at its first success: R_t = 1 where it succeeds, else discount R_(t+1)."""
    success = np.array(flags)
    returns = returns_to_go(success, discount)
    after = np.append(returns[1:], 0.0)
    np.testing.assert_allclose(returns, np.where(success, 1.0, discount * after), rtol=1e-5)


def test_episodes_without_outcomes_have_what_their_metadata_say(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", episodes=2, length=4)
    expected = [0.125, 0.25, 0.5, 1.0]
    np.testing.assert_allclose(returns_of(dataset.episodes, 0.5), expected * 2)
    with dataset.writer(2) as writer:
        _record(writer, [None, None])
        writer.commit(stop_reason="truncated", success=None, metadata={})
    with pytest.raises(DatasetError, match="episode_000002.*does not say whether it succeeded"):
        returns_of(Dataset.open(tmp_path / "data").episodes, 0.5)


def test_recorded_outcomes_count(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "data", spec=SPEC, task="point", versions={})
    for number, flags in enumerate([[False, True], [False, False, False]]):
        with dataset.writer(number) as writer:
            _record(writer, flags)
            writer.commit(stop_reason="terminated", success=any(flags), metadata={})
    np.testing.assert_allclose(returns_of(Dataset.open(dataset.path).episodes, 0.5), [0.5, 1.0, 0.0, 0.0, 0.0])


def _record(writer: object, flags: list[bool | None]) -> None:
    for step, flag in enumerate(flags):
        time_ns = step * SPEC.period_ns
        observation = {
            name: Sample(np.zeros(array.shape, np.float32), time_ns, step) for name, array in SPEC.observations.items()
        }
        writer.record(Tick(step, time_ns, observation, np.zeros(2), np.zeros(2), "script", {}))  # type: ignore[attr-defined]
        if flag is not None:
            writer.record_outcome(Outcome(float(flag), flag, flag), False)  # type: ignore[attr-defined]
