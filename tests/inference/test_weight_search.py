"""The search for weights: grids, halving, a toy with a known optimum, and the null test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import paired_difference
from robopolicy.inference.weight_search import (
    Evaluate,
    Score,
    Weights,
    is_parent,
    most_episodes,
    search,
    simplex_grid,
)

TUNING, REPORT = range(5000, 5160), range(10000, 10400)


@given(st.integers(1, 4), st.integers(1, 8))
def test_the_grid_is_the_whole_simplex_once(count: int, divisions: int) -> None:
    grid = simplex_grid(count, divisions)
    assert len(grid) == len(set(grid)) == math.comb(divisions + count - 1, count - 1)
    assert all(sum(weights) == pytest.approx(1.0) and min(weights) >= 0.0 for weights in grid)
    assert all(is_parent(weights) for weights in grid[:count])


def test_the_published_grid() -> None:
    assert sorted(weights[0] for weights in simplex_grid(2, 10)) == pytest.approx([i / 10 for i in range(11)])


def _coins(rates: dict[Weights, float], *, shared: float = 1.0, key: int = 0) -> Evaluate:
    """Success where a seed's number lies below the rate; `shared` is how many seeds have one number for all weights."""

    def evaluate(weights: Weights, seeds: Sequence[int]) -> list[Score]:
        own = [np.random.default_rng((key, seed, *(round(1000 * w) for w in weights))).random() for seed in seeds]
        common = [np.random.default_rng((key, seed)).random() for seed in seeds]
        use_common = [np.random.default_rng((key, seed, 1)).random() < shared for seed in seeds]
        draws = [c if u else o for c, o, u in zip(common, own, use_common, strict=True)]
        return [(float(draw < rates[weights]), 0.0) for draw in draws]

    return evaluate


def test_a_known_optimum_is_found_and_holds_on_other_seeds() -> None:
    """Success 0.9 - 1.2 (w - 0.6)^2, selected on tuning seeds and reported on others."""
    grid = simplex_grid(2, 10)
    evaluate = _coins({weights: 0.9 - 1.2 * (weights[0] - 0.6) ** 2 for weights in grid}, shared=0.8)
    found = search(grid, evaluate, TUNING, 20)
    assert found.best[0] == pytest.approx(0.6, abs=0.21)
    assert found.parent == (1.0, 0.0)
    ahead = [[score[0] for score in evaluate(weights, REPORT)] for weights in (found.best, found.parent)]
    assert paired_difference(*ahead).low > 0.0


def test_all_candidates_of_a_round_run_the_same_seeds_and_the_best_parent_always_does() -> None:
    grid = simplex_grid(2, 10)
    ran: dict[Weights, list[int]] = {weights: [] for weights in grid}
    coins = _coins({weights: 0.5 + 0.4 * (not is_parent(weights)) for weights in grid})

    def evaluate(weights: Weights, seeds: Sequence[int]) -> Sequence[Score]:
        ran[weights] += seeds
        return coins(weights, seeds)

    found = search(grid, evaluate, TUNING, 20)
    assert [each.seeds for each in found.rounds] == [20, 40, 80, 160]
    assert [len(each.candidates) for each in found.rounds] == [11, 7, 5, 4][: len(found.rounds)]
    for weights, seeds in ran.items():
        rounds = [each.seeds for each in found.rounds if weights in each.candidates]
        assert seeds == list(TUNING[: rounds[-1]])
    assert ran[found.parent] == list(TUNING)
    assert sum(len(seeds) for seeds in ran.values()) <= most_episodes(11, 160, 20)


def test_identical_parents_give_no_gain() -> None:
    """The null test: every composition is the same policy, so a parent wins."""
    grid = simplex_grid(2, 10)
    found = search(grid, _coins(dict.fromkeys(grid, 0.7)), TUNING, 20)
    assert is_parent(found.best)
    assert found.best == found.parent


def test_without_a_true_gain_a_claim_is_rare() -> None:
    """Equal rates, but independent luck: the best of eleven looks better where it was chosen, not on report seeds."""
    grid = simplex_grid(2, 10)
    claims, tuning_gains = 0, []
    for key in range(40):
        evaluate = _coins(dict.fromkeys(grid, 0.7), shared=0.0, key=key)
        found = search(grid, evaluate, TUNING, 20)
        last = found.rounds[-1]
        by_weights = dict(zip(last.candidates, last.successes, strict=True))
        tuning_gains.append((by_weights[found.best] - by_weights[found.parent]) / last.seeds)
        if not is_parent(found.best):
            best, parent = ([score[0] for score in evaluate(w, REPORT)] for w in (found.best, found.parent))
            claims += paired_difference(best, parent, samples=1000).low > 0.0
    assert np.mean(tuning_gains) > 0.01  # the bias of selection
    assert claims <= 4  # 2.5 % of 40 are 1


def test_what_cannot_be_searched() -> None:
    grid = simplex_grid(2, 2)
    coins = _coins(dict.fromkeys(grid, 0.5))
    with pytest.raises(ConfigError, match="first_episodes=0"):
        search(grid, coins, TUNING, 0)
    with pytest.raises(ConfigError, match="first_episodes=200, expected 1 to 160"):
        search(grid, coins, TUNING, 200)
    with pytest.raises(ConfigError, match="no policy alone"):
        search([(0.5, 0.5)], coins, TUNING, 20)
    with pytest.raises(ConfigError, match="divisions=0"):
        simplex_grid(2, 0)
