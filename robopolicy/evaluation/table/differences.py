"""Means and paired differences over several training seeds, each evaluated on the same environment seeds.

The two levels are crossed: every training run meets the same start states. So training seeds and environment seeds are
each drawn with replacement, and a run of the first and a start of the second kind that were both drawn bring their
episode (the "pigeonhole" bootstrap of crossed levels: Owen 2007, Ann. Appl. Stat. 1). Drawing episodes inside each run
instead would take the starts of two runs for independent ones and make intervals too narrow. Three training seeds say
little about how much training runs differ, whatever the method: the interval of a mean over three is too narrow by
about a fifth. With one training seed this is the ordinary bootstrap over episodes, and says nothing about others.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy import stats

from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import Array, Interval, bootstrap_mean, paired_difference

_SAMPLES = 10_000
_QUANTILE = 1.959964


def crossed_mean(values: Array) -> Interval:
    """Mean of [S, N] scores of S training seeds on N environment seeds, 95 %."""
    _check(values)
    if len(values) == 1 or np.all(values == values[0, 0]):
        return replace(bootstrap_mean(values[0]), count=values.size)
    return _interval(values, "bootstrap over training and environment seeds, 95 %")


def crossed_difference(a: Array, b: Array) -> Interval:
    """Mean of a - b ([S, N] each, paired by both seeds), 95 %; `count` is the number of pairs.

    Where no pair differs from the others the interval is that of `paired_difference` over the environment seeds.
    """
    _check(a)
    if a.shape != b.shape:
        raise ConfigError(f"scores of shape {list(a.shape)} cannot be paired with {list(b.shape)}")
    differences = a - b
    if len(a) == 1 or np.all(differences == differences[0, 0]):
        return replace(paired_difference(a[0], b[0]), count=a.size)
    return _interval(differences, "paired bootstrap over training and environment seeds, 95 %")


def p_of_less(difference: Interval, bound: float) -> float:
    """One-sided p-value of "the true difference is at most `bound`", under 0.025 exactly where `low` exceeds it.

    The distance from estimate to `low` is taken as 1.96 standard errors.
    """
    return _tail(difference.estimate - bound, difference.estimate - difference.low)


def p_of_none(difference: Interval) -> float:
    """Two-sided p-value of "there is no difference", under 0.05 exactly where the interval leaves out zero."""
    end = difference.low if difference.estimate > 0 else difference.high
    return min(1.0, 2 * _tail(abs(difference.estimate), abs(difference.estimate - end)))


def p_of_equal_success(a: Array, b: Array) -> float:
    """Of "both succeed equally often": exact McNemar test for one training seed, `p_of_none` for several."""
    if len(a) > 1:
        return p_of_none(crossed_difference(a, b))
    discordant = int(np.sum(a > b)), int(np.sum(b > a))
    return float(stats.binomtest(discordant[0], sum(discordant)).pvalue) if any(discordant) else 1.0


def _tail(distance: float, half_width: float) -> float:
    if half_width == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.norm.sf(_QUANTILE * distance / half_width))


def _interval(values: Array, method: str) -> Interval:
    rows, columns = (_weights(level, count) for level, count in enumerate(values.shape))
    means = np.sum((rows @ values) * columns, axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), values.size, method)


@lru_cache(maxsize=4)
def _weights(level: int, count: int) -> Array:
    """[samples, count] shares with which each of `count` seeds is drawn; the same in every comparison."""
    return np.random.default_rng([level, count]).multinomial(count, np.full(count, 1 / count), size=_SAMPLES) / count


def _check(values: Array) -> None:
    if values.ndim != 2 or not values.size or not np.all(np.isfinite(values)):
        raise ConfigError(f"scores of shape {list(values.shape)}, expected finite ones [training seeds, episodes]")
