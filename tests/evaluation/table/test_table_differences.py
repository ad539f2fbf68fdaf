"""Intervals over training seeds and environment seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import Interval, not_worse, paired_difference
from robopolicy.evaluation.table.differences import (
    crossed_difference,
    crossed_mean,
    p_of_equal_success,
    p_of_less,
    p_of_none,
)


def successes(*rates: float, count: int = 400, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([(random.random(count) < rate).astype(float) for rate in rates])


def test_one_training_seed_is_the_ordinary_paired_bootstrap() -> None:
    a, b = successes(0.8), successes(0.7, seed=1)
    assert crossed_difference(a, b) == paired_difference(a[0], b[0])


def test_the_estimate_is_the_mean_over_all_pairs() -> None:
    a, b = successes(0.9, 0.7, 0.8), successes(0.6, 0.6, 0.6, seed=1)
    difference = crossed_difference(a, b)
    assert difference.estimate == pytest.approx(float((a - b).mean()))
    assert difference.low < difference.estimate < difference.high
    assert difference.count == 1200
    assert crossed_difference(b, a).low == pytest.approx(-difference.high, abs=1e-9)


def test_training_runs_that_differ_widen_the_interval() -> None:
    """Rates 1, 0.5 and 0 average to 0.5 as three times 0.5 does, but say much less about the next training run."""
    alike, apart = crossed_mean(successes(0.5, 0.5, 0.5)), crossed_mean(successes(1.0, 0.5, 0.0))
    assert alike.high - alike.low < 0.12
    assert apart.high - apart.low > 0.5


def test_the_same_starts_in_every_run_are_not_taken_for_new_ones() -> None:
    """Three identical runs know as much as one: intervals as wide as over the environment seeds of one."""
    one = successes(0.5)
    three = np.repeat(one, 3, axis=0)
    single, crossed = crossed_mean(one), crossed_mean(three)
    assert crossed.high - crossed.low == pytest.approx(single.high - single.low, rel=0.05)


def test_pairs_that_all_agree_leave_what_the_environment_seeds_could_hide() -> None:
    same = np.ones((3, 100))
    difference = crossed_difference(same, same)
    assert (difference.estimate, difference.count) == (0.0, 300)
    assert difference.low == pytest.approx(-(1 - 0.025 ** (1 / 100)))
    assert p_of_none(difference) == 1.0
    assert crossed_mean(same).estimate == 1.0


@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_p_values_agree_with_the_interval(estimate: float, below: float, above: float) -> None:
    interval = Interval(estimate, estimate - below, estimate + above, 400, "paired")
    if abs(interval.low + 0.05) > 1e-6:
        assert (p_of_less(interval, -0.05) < 0.025) == not_worse(interval, 400)
    if min(abs(interval.low), abs(interval.high)) > 1e-6:
        assert (p_of_none(interval) < 0.05) == (interval.low > 0 or interval.high < 0)


def test_a_normal_interval_gives_the_normal_p_value() -> None:
    interval = Interval(0.02, 0.02 - 1.959964 * 0.03, 0.02 + 1.959964 * 0.03, 400, "paired")
    assert p_of_less(interval, -0.05) == pytest.approx(float(stats.norm.sf(0.07 / 0.03)))
    assert p_of_none(interval) == pytest.approx(2 * float(stats.norm.sf(0.02 / 0.03)))


def test_one_run_is_tested_exactly() -> None:
    a = np.zeros((1, 20))
    b = a.copy()
    a[0, :6] = 1
    assert p_of_equal_success(a, b) == pytest.approx(2 / 2**6)
    assert p_of_equal_success(b, b) == 1.0
    several = np.repeat(a, 2, axis=0), np.repeat(b, 2, axis=0)
    assert p_of_equal_success(*several) == p_of_none(crossed_difference(*several))


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[2, 5\] cannot be paired with \[1, 5\]"):
        crossed_difference(np.zeros((2, 5)), np.zeros((1, 5)))
    with pytest.raises(ConfigError, match="expected finite ones"):
        crossed_mean(np.array([[np.nan]]))
