"""Intervals against published values, closed forms and simulated coverage."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import (
    Interval,
    bootstrap_auroc,
    bootstrap_mean,
    holm,
    not_worse,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (46, 50, 0.8116, 0.9685),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17, table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_published_values(successes: int, count: int, low: float, high: float) -> None:
    interval = wilson(successes, count)
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


@given(count=st.integers(1, 2000), data=st.data())
def test_wilson_is_symmetric_and_contains_the_rate(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, count))
    interval, mirrored = wilson(successes, count), wilson(count - successes, count)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_wilson_ends_solve_the_score_equation() -> None:
    """Each end p satisfies (rate - p)^2 = z^2 p (1 - p) / n."""
    interval = wilson(37, 50, confidence=0.9)
    z = stats.norm.ppf(0.95)
    for end in (interval.low, interval.high):
        assert (interval.estimate - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / 50, rel=1e-9)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.92])
def test_wilson_covers_the_true_rate(rate: float) -> None:
    """Exact coverage: the binomial weight of all outcomes whose interval holds the true rate."""
    inside = [wilson(k, 50).low <= rate <= wilson(k, 50).high for k in range(51)]
    assert 0.92 < float(np.sum(stats.binom.pmf(np.arange(51), 50, rate)[inside])) < 0.98


def test_interval_reads_as_a_sentence() -> None:
    assert str(wilson(46, 50)) == "92.0 % [81.2, 96.8] of 50"
    assert str(Interval(0.5, 0.25, 0.75, 4, "paired bootstrap")) == "+0.500 [+0.250, +0.750] of 4"
    assert wilson(46, 50).json()["count"] == 50


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_rate(successes: int, count: int) -> None:
    with pytest.raises(ConfigError, match="no success rate"):
        wilson(successes, count)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=60)
    reference = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="BCa", random_state=2)
    interval = bootstrap_mean(values)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(reference.confidence_interval.low, abs=0.01)
    assert interval.high == pytest.approx(reference.confidence_interval.high, abs=0.015)


def test_bootstrap_approaches_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(size=2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    interval = bootstrap_mean(values)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.003)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.003)


def test_bootstrap_covers_the_true_mean() -> None:
    """Scores of 50 episodes from a skewed Beta(4, 1): 400 repetitions, at least 91 % must hold the true mean 0.8."""
    random = np.random.default_rng(4)
    intervals = [bootstrap_mean(random.beta(4, 1, size=50), samples=1000) for _ in range(400)]
    covered = np.mean([interval.low <= 0.8 <= interval.high for interval in intervals])
    assert 0.91 <= covered <= 0.985


def test_bootstrap_is_reproducible_and_ignores_shift() -> None:
    values = np.random.default_rng(5).random(30)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    shifted = bootstrap_mean(values + 2, seed=7)
    assert shifted.low == pytest.approx(bootstrap_mean(values, seed=7).low + 2)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6))
def test_bootstrap_ends_are_finite_and_inside_the_values(values: list[float]) -> None:
    interval = bootstrap_mean(values, samples=200)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


def test_equal_values_are_named_instead_of_claimed_certain() -> None:
    interval = bootstrap_mean([1.0, 1.0, 1.0])
    assert (interval.low, interval.high) == (1.0, 1.0)
    assert "all values are equal" in interval.method
    assert str(interval) == "1.000 in each of 3"


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [[1.0]]])
def test_bootstrap_refuses_unusable_scores(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="scores"):
        bootstrap_mean(values)


def test_paired_difference_uses_the_pairing() -> None:
    """Pairs that move together: the paired interval is far narrower than the spread of either method."""
    random = np.random.default_rng(6)
    hardness = random.random(200)
    interval = paired_difference(hardness + 0.1 + 0.01 * random.normal(size=200), hardness)
    assert interval.low > 0.09
    assert interval.high < 0.11


def test_paired_difference_of_binary_outcomes_covers_the_truth() -> None:
    """a succeeds where b fails in 15 %, the reverse in 5 % of the seeds: true difference 0.1, 200 pairs, 300 tries."""
    random = np.random.default_rng(8)
    covered = 0
    for _ in range(300):
        kinds = random.choice(4, size=200, p=[0.15, 0.05, 0.6, 0.2])
        a, b = np.isin(kinds, [0, 2]), np.isin(kinds, [1, 2])
        interval = paired_difference(a, b, samples=1000)
        covered += interval.low <= 0.1 <= interval.high
    assert 0.91 <= covered / 300 <= 0.985


def test_no_discordant_pair_leaves_room_for_the_unseen() -> None:
    """N pairs without a discordant one: their rate may be p as long as (1 - p)^N is at least 2.5 %."""
    interval = paired_difference([True] * 50, [True] * 50)
    assert interval.estimate == 0
    assert (1 + interval.low) ** 50 == pytest.approx(0.025)
    assert interval.high == -interval.low
    assert "no pair differs" in interval.method
    assert not_worse(paired_difference(np.ones(400), np.ones(400)), 400) is True


def test_unequal_numbers_are_no_pairs() -> None:
    with pytest.raises(ConfigError, match="3 scores cannot be paired with 2"):
        paired_difference([1, 0, 1], [1, 0])


@pytest.mark.parametrize(
    ("low", "pairs", "verdict"),
    [
        (-0.049, 400, True),
        (-0.05, 400, False),
        (-0.07, 399, True),
        (-0.07, 400, False),
        (-0.10, 100, False),
        (-0.01, 99, None),
    ],
)
def test_not_worse_needs_enough_pairs(low: float, pairs: int, verdict: bool | None) -> None:
    assert not_worse(Interval(0.0, low, 0.1, pairs, "paired bootstrap"), pairs) is verdict


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; the last may not fall below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1.0, len(p_values) * raw) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.asarray(adjusted)[order]) >= 0)


def test_statistics_need_no_torch() -> None:
    check = "import sys, robopolicy.evaluation.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_auroc_is_the_share_of_ordered_pairs_with_ties_as_halves() -> None:
    random = np.random.default_rng(0)
    above, below = random.integers(0, 6, 40).astype(float), random.integers(0, 5, 30).astype(float)
    pairs = np.sign(above[:, None] - below[None]) / 2 + 0.5
    auroc = bootstrap_auroc(above, below)
    assert auroc.estimate == pytest.approx(pairs.mean())
    assert auroc.low < auroc.estimate < auroc.high
    assert auroc.count == 70


def test_auroc_of_separate_and_of_equal_scores() -> None:
    assert bootstrap_auroc([2.0, 3.0], [0.0, 1.0]).estimate == 1.0
    assert bootstrap_auroc([1.0, 1.0], [1.0]).estimate == 0.5
    with pytest.raises(ConfigError):
        bootstrap_auroc([], [1.0])


def test_the_interval_of_auroc_covers_the_truth() -> None:
    """Scores N(1, 1) against N(0, 1): the truth is Phi(1 / sqrt(2))."""
    random, truth, covered = np.random.default_rng(1), stats.norm.cdf(2**-0.5), 0
    for _ in range(60):
        interval = bootstrap_auroc(random.normal(1, 1, 60), random.normal(0, 1, 60), samples=300)
        covered += interval.low <= truth <= interval.high
    assert covered >= 50
