"""Intervals and tests that keep success rates honest; NumPy and SciPy only.

Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22), the bias-corrected and accelerated bootstrap (Efron 1987,
J. Am. Stat. Assoc. 82) over episodes or pairs of episodes, and Holm's step-down correction (Holm 1979, Scand. J.
Stat. 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from robopolicy.errors import ConfigError

Array = NDArray[np.float64]

ALL_EQUAL = "bootstrap impossible: all values are equal"
MARGINS = ((400, 0.05), (100, 0.10))
"""Number of pairs, and how much worse the lower end of a difference may then be for "not worse"."""


@dataclass(frozen=True)
class Interval:
    """An estimate between two ends, with the number of episodes (or pairs) that it rests on and how it was made."""

    estimate: float
    low: float
    high: float
    count: int
    method: str

    def json(self) -> dict[str, float | int | str]:
        return asdict(self)

    def __str__(self) -> str:
        """A rate in percent, such as "92.0 % [81.2, 96.8] of 50"; everything else with three decimals."""
        if self.method == ALL_EQUAL:
            return f"{self.estimate:.3f} in each of {self.count}"
        if self.method.startswith("Wilson"):
            return f"{self.estimate:.1%} [{self.low * 100:.1f}, {self.high * 100:.1f}] of {self.count}".replace(
                "%", " %"
            )
        sign = "+" if self.method.startswith("paired") else ""
        return f"{self.estimate:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}] of {self.count}"


def wilson(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate. Raises ConfigError without episodes."""
    if count < 1 or not 0 <= successes <= count:
        raise ConfigError(f"{successes} successes of {count} episodes is no success rate")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    rate = successes / count
    scale = 1 + z * z / count
    centre = (rate + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == count else centre + half
    return Interval(rate, low, high, count, f"Wilson score, {confidence * 100:g} %")


def bootstrap_mean(values: ArrayLike, seed: int = 0, samples: int = 10_000) -> Interval:
    """Mean of a score over episodes ([N]) with its 95 % bootstrap interval.

    Values that are all equal have nothing to resample: the interval is that value alone, and `method` says so. Raises
    ConfigError without values or with NaN.
    """
    scores = _finite(values, "scores")
    mean = float(scores.mean())
    if np.all(scores == scores[0]):
        return Interval(mean, mean, mean, len(scores), ALL_EQUAL)
    low, high = _bca(scores, seed, samples)
    return Interval(mean, low, high, len(scores), "bootstrap over episodes, BCa, 95 %")


def bootstrap_auroc(positive: ArrayLike, negative: ArrayLike, seed: int = 0, samples: int = 2_000) -> Interval:
    """The chance that a positive score lies above a negative one (ties count half), with its 95 % bootstrap interval.

    Scores are [N] and [M]; each side is resampled by itself. Raises ConfigError without scores or with NaN.
    """
    above, below = _finite(positive, "positive scores"), _finite(negative, "negative scores")
    random = np.random.default_rng(seed)
    estimates = [_auroc(random.choice(above, len(above)), random.choice(below, len(below))) for _ in range(samples)]
    low, high = np.quantile(estimates, [0.025, 0.975])
    count = len(above) + len(below)
    return Interval(_auroc(above, below), float(low), float(high), count, "bootstrap of both sides, percentile, 95 %")


def _auroc(positive: Array, negative: Array) -> float:
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.mean() - (len(positive) + 1) / 2) / len(negative))


def paired_difference(a: ArrayLike, b: ArrayLike, seed: int = 0, samples: int = 10_000) -> Interval:
    """Mean of a - b over pairs of the same seeds ([N] each, rates or scores between 0 and 1), 95 % bootstrap interval.

    When every pair differs by the same amount (two policies that agree on every seed, say), the bootstrap would claim
    certainty. Then the interval reaches as far as the share of pairs that could differ otherwise and still not have
    shown up in N pairs (1 - 0.025^(1/N), Clopper-Pearson), times 1, the greatest distance of two scores; `method` says
    so. Raises ConfigError for unequal lengths.
    """
    first, second = _finite(a, "scores of a"), _finite(b, "scores of b")
    if len(first) != len(second):
        raise ConfigError(f"{len(first)} scores cannot be paired with {len(second)}")
    differences = first - second
    mean, count = float(differences.mean()), len(differences)
    if np.all(differences == differences[0]):
        unseen = 1 - 0.025 ** (1 / count)
        ends = max(mean - unseen, -1.0), min(mean + unseen, 1.0)
        return Interval(mean, *ends, count, "paired, no pair differs from the others: Clopper-Pearson bound, 95 %")
    low, high = _bca(differences, seed, samples)
    return Interval(mean, low, high, count, "paired bootstrap, BCa, 95 %")


def not_worse(difference: Interval, pairs: int) -> bool | None:
    """Whether a is shown to be not worse than b, given the interval of a - b: None (undecided) under 100 pairs.

    The lower end must lie above -0.05 with at least 400 pairs and above -0.10 with 100 to 399.
    """
    for enough, margin in MARGINS:
        if pairs >= enough:
            return difference.low > -margin
    return None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: reject those under the level and the familywise error is kept."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _finite(values: ArrayLike, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ConfigError(f"{what} have shape {array.shape}, expected one value for each of at least one episode")
    if not np.all(np.isfinite(array)):
        raise ConfigError(f"{what} hold {int(np.sum(~np.isfinite(array)))} values that are not finite")
    return array


def _bca(values: Array, seed: int, samples: int) -> tuple[float, float]:
    """Efron's interval of the mean of values that are not all equal; the acceleration has a closed form for a mean."""
    mean = values.mean()
    scale = np.abs(values - mean).max()
    centred = (values - mean) / scale
    means = _resampled_means(centred, np.random.default_rng(seed), samples)
    below = (np.sum(means < -1e-12) + 0.5 * np.sum(np.abs(means) <= 1e-12)) / samples
    bias = stats.norm.ppf(np.clip(below, 1 / samples, 1 - 1 / samples))
    acceleration = np.sum(centred**3) / (6 * np.sum(centred**2) ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    levels = stats.norm.cdf(bias + z / (1 - acceleration * z))
    low, high = mean + scale * np.quantile(means, levels)
    return float(low), float(high)


def _resampled_means(values: Array, random: np.random.Generator, samples: int) -> Array:
    """Means of `samples` resamplings, drawn in blocks of at most a million numbers."""
    block = max(1, 1_000_000 // len(values))
    sizes = [min(block, samples - start) for start in range(0, samples, block)]
    return np.concatenate([values[random.integers(len(values), size=(n, len(values)))].mean(axis=1) for n in sizes])
