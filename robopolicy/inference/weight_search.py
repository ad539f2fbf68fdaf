"""The search for the weights of a composition: successive halving with paired seeds (Jamieson and Talwalkar, arXiv
1502.07943).

All candidates run the same first seeds; the better half goes on to as many again, and so on, until one is left or the
seeds are used up. The best parent always goes on, so that what wins has been compared with it on every seed. Knows
nothing of policies: it is told how well weights do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from robopolicy.errors import ConfigError

Weights = tuple[float, ...]
Score = tuple[float, float]
"""Of one seed: what counts (success), and what decides between equals (best reward); more is better."""
Evaluate = Callable[[Weights, Sequence[int]], Sequence[Score]]
"""How weights do on each of some seeds."""


@dataclass(frozen=True)
class Round:
    """What one round of the search found.

    Attributes:
        seeds: how many each candidate has behind it.
        candidates: those that ran it, best first.
        successes: of each candidate, on all of its seeds.
    """

    seeds: int
    candidates: tuple[Weights, ...]
    successes: tuple[float, ...]


@dataclass(frozen=True)
class Found:
    """`best` of all candidates and `parent`, the best of the policies alone; both ran all seeds of the last round."""

    best: Weights
    parent: Weights
    rounds: tuple[Round, ...]


def simplex_grid(count: int, divisions: int) -> list[Weights]:
    """All convex weights of `count` parents in steps of 1 / divisions, the parents themselves first."""
    if count < 1 or divisions < 1:
        raise ConfigError(f"divisions={divisions} of the weights of {count} policies, expected at least 1 of each")
    bars = combinations(range(divisions + count - 1), count - 1)
    shares = [_gaps(places, divisions + count - 1) for places in bars]
    grid = [tuple(share / divisions for share in row) for row in shares]
    return sorted(grid, key=lambda weights: (not is_parent(weights), [-weight for weight in weights]))


def is_parent(weights: Weights) -> bool:
    """Whether one policy has all the weight."""
    return sum(weight != 0.0 for weight in weights) == 1


def search(candidates: Sequence[Weights], evaluate: Evaluate, seeds: Sequence[int], first: int) -> Found:
    """Halves the candidates, of which one at least must be a parent, until one is left or all `seeds` are used.

    The first round has `first` seeds, each further one as many as came before it. Between equals the parents win, as
    they cost less.
    """
    if not 1 <= first <= len(seeds):
        raise ConfigError(f"first_episodes={first}, expected 1 to {len(seeds)}, the tuning episodes")
    if not any(is_parent(weights) for weights in candidates):
        raise ConfigError("there is no policy alone among the candidates to compare with")
    scores: dict[Weights, list[Score]] = {weights: [] for weights in candidates}
    left, rounds, used = list(candidates), list[Round](), 0
    while True:
        stop = min(max(2 * used, first), len(seeds))
        for weights in left:
            scores[weights] += evaluate(weights, seeds[used:stop])
        used = stop
        left = sorted(left, key=lambda weights: _rank(weights, scores[weights]))
        rounds.append(Round(used, tuple(left), tuple(_sum(scores[weights], 0) for weights in left)))
        parent = next(weights for weights in left if is_parent(weights))
        kept = left[: math.ceil(len(left) / 2)]
        if used == len(seeds) or kept == [parent]:
            return Found(left[0], parent, tuple(rounds))
        left = kept if parent in kept else [*kept, parent]


def most_episodes(candidates: int, seeds: int, first: int) -> int:
    """How many episodes a search of so many candidates runs at most."""
    left, used, episodes = candidates, 0, 0
    while used < seeds and left:
        stop = min(max(2 * used, first), seeds)
        episodes, used = episodes + left * (stop - used), stop
        left = min(left, math.ceil(left / 2) + 1)
    return episodes


def _rank(weights: Weights, scores: Sequence[Score]) -> tuple[float, bool, float]:
    """Sorts the best first."""
    return -_sum(scores, 0), not is_parent(weights), -_sum(scores, 1)


def _sum(scores: Sequence[Score], place: int) -> float:
    return math.fsum(score[place] for score in scores)


def _gaps(bars: Sequence[int], total: int) -> list[int]:
    """How many places lie before, between and after the bars."""
    edges = [-1, *bars, total]
    return [after - before - 1 for before, after in pairwise(edges)]
