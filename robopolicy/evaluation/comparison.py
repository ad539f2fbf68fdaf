"""Two methods on the same seeds: the paired difference, and what may be claimed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeResult
from robopolicy.evaluation.statistics import Interval, not_worse, paired_difference, wilson

INFORMATIVE = (0.60, 0.85)
"""Where the success rate of the reference should lie: a saturated task decides nothing."""


@dataclass(frozen=True)
class Comparison:
    """How much better a is than the reference b.

    Attributes:
        success_a, success_b: each method's own rate.
        success, max_reward: paired intervals of a - b.
        discordant: pairs that only one of the two solved: (a alone, b alone).
        not_worse: shown, not shown, or None: too few pairs to decide.
        saturated: the reference's rate lies outside 60 to 85 %.
    """

    success_a: Interval
    success_b: Interval
    success: Interval
    max_reward: Interval
    discordant: tuple[int, int]
    not_worse: bool | None
    saturated: bool

    def json(self) -> dict[str, Any]:
        return {
            "success_a": self.success_a.json(),
            "success_b": self.success_b.json(),
            "success_difference": self.success.json(),
            "max_reward_difference": self.max_reward.json(),
            "discordant": list(self.discordant),
            "not_worse": self.not_worse,
            "saturated": self.saturated,
        }

    @property
    def verdict(self) -> str:
        """What may be claimed, in words."""
        words = {True: "not worse", False: "not shown to be not worse", None: "undecided (under 100 pairs)"}
        low, high = (round(share * 100) for share in INFORMATIVE)
        note = f"; the reference is outside {low} to {high} %, so the task decides little" if self.saturated else ""
        return words[self.not_worse] + note

    def __str__(self) -> str:
        return f"success {self.success} pairs, max reward {self.max_reward} pairs: {self.verdict}"


def compare(a: Sequence[EpisodeResult], b: Sequence[EpisodeResult]) -> Comparison:
    """Compares a with the reference b, paired by seed. Raises ConfigError when their seeds differ."""
    first, second = _by_seed(a), _by_seed(b)
    if first.keys() != second.keys():
        raise ConfigError(_seed_sentence(set(first), set(second)))
    pairs = [(first[seed], second[seed]) for seed in sorted(first)]
    success = paired_difference([x.success for x, _ in pairs], [y.success for _, y in pairs])
    success_b = wilson(sum(y.success for _, y in pairs), len(pairs))
    return Comparison(
        success_a=wilson(sum(x.success for x, _ in pairs), len(pairs)),
        success_b=success_b,
        success=success,
        max_reward=paired_difference([x.max_reward for x, _ in pairs], [y.max_reward for _, y in pairs]),
        discordant=(
            sum(x.success and not y.success for x, y in pairs),
            sum(y.success and not x.success for x, y in pairs),
        ),
        not_worse=not_worse(success, len(pairs)),
        saturated=not INFORMATIVE[0] <= success_b.estimate <= INFORMATIVE[1],
    )


def _by_seed(results: Sequence[EpisodeResult]) -> dict[int, EpisodeResult]:
    by_seed = {result.seed: result for result in results}
    if len(by_seed) != len(results):
        raise ConfigError(f"{len(results)} results have only {len(by_seed)} different seeds, expected one for each")
    return by_seed


def _seed_sentence(a: set[int], b: set[int]) -> str:
    def named(seeds: set[int]) -> str:
        shown = ", ".join(str(seed) for seed in sorted(seeds)[:3])
        return f"{len(seeds)} ({shown}{', ...' if len(seeds) > 3 else ''})" if seeds else "none"

    return (
        f"the two results cannot be paired: seeds only in the first: {named(a - b)}, only in the second: "
        f"{named(b - a)}; evaluate both with the same seed= and episodes="
    )
