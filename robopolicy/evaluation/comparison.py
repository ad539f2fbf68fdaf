"""Two methods on the same seeds: the paired difference, and what may be claimed from it.

Whether the success rates differ at all is McNemar's question (1947, Psychometrika 12), answered exactly: of the pairs
that only one of the two solved, is it a fair coin which one? With several references Holm's correction is applied to
these p-values; the intervals stay at 95 % each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy import stats

from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeResult, load_results
from robopolicy.evaluation.statistics import Interval, holm, not_worse, paired_difference, wilson

INFORMATIVE = (0.60, 0.85)
"""Where the success rate of the reference should lie: a saturated task decides nothing."""


@dataclass(frozen=True)
class Comparison:
    """How much better a is than the reference b.

    Attributes:
        success_a, success_b: each method's own rate.
        success, max_reward: paired intervals of a - b.
        discordant: pairs that only one of the two solved: (a alone, b alone).
        p_value: of equal success rates; after Holm's correction where b is one of several references.
        references: how many there are.
        reference: the name of b.
        not_worse: shown, not shown, or None: too few pairs to decide.
        saturated: the reference's rate lies outside 60 to 85 %.
    """

    success_a: Interval
    success_b: Interval
    success: Interval
    max_reward: Interval
    discordant: tuple[int, int]
    p_value: float
    not_worse: bool | None
    saturated: bool
    references: int = 1
    reference: str = ""

    def json(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "success_a": self.success_a.json(),
            "success_b": self.success_b.json(),
            "success_difference": self.success.json(),
            "max_reward_difference": self.max_reward.json(),
            "discordant": list(self.discordant),
            "p_value": self.p_value,
            "references": self.references,
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

    @property
    def test(self) -> str:
        """The p-value and where it comes from."""
        how = "exact McNemar test"
        return f"{self.p_value:.3g} ({how}{f', Holm over {self.references} references' * (self.references > 1)})"

    def __str__(self) -> str:
        return f"success {self.success} pairs, p {self.test}, max reward {self.max_reward} pairs: {self.verdict}"


@dataclass(frozen=True)
class Reference:
    """An earlier evaluation to compare with: its `result.json`, the task, and the episodes."""

    path: Path
    task: str
    episodes: Sequence[EpisodeResult]

    def check(self, task: str, seeds: Sequence[int]) -> None:
        """Raises ConfigError when an evaluation of `task` on `seeds` could not be paired with this one."""
        if self.task != task:
            raise ConfigError(f"against={self.path} is an evaluation of task '{self.task}', this one is of '{task}'")
        there = {result.seed for result in self.episodes}
        if set(seeds) != there:
            raise ConfigError(f"against={self.path}: {_seed_sentence(set(seeds), there)}")


def load_reference(path: Path) -> Reference:
    """That of a `result.json`, or of the folder that holds it. Raises ConfigError for anything else."""
    path = path / "result.json" if path.is_dir() else path
    episodes = load_results(path)
    try:
        return Reference(path, str(json.loads(path.read_text())["settings"]["task"]), episodes)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path} does not say of which task it is, expected a result.json that eval.py wrote") from (
            error
        )


def compare_all(results: Sequence[EpisodeResult], references: Sequence[Reference]) -> list[Comparison]:
    """Compares `results` with each reference; the p-values are Holm's."""
    raw = [compare(results, reference.episodes) for reference in references]
    adjusted = holm([comparison.p_value for comparison in raw])
    return [
        replace(comparison, p_value=p_value, references=len(raw), reference=str(reference.path))
        for comparison, p_value, reference in zip(raw, adjusted, references, strict=True)
    ]


def compare(a: Sequence[EpisodeResult], b: Sequence[EpisodeResult]) -> Comparison:
    """Compares a with the reference b, paired by seed. Raises ConfigError when their seeds differ."""
    first, second = _by_seed(a), _by_seed(b)
    if first.keys() != second.keys():
        raise ConfigError(_seed_sentence(set(first), set(second)))
    pairs = [(first[seed], second[seed]) for seed in sorted(first)]
    success = paired_difference([x.success for x, _ in pairs], [y.success for _, y in pairs])
    success_b = wilson(sum(y.success for _, y in pairs), len(pairs))
    discordant = sum(x.success > y.success for x, y in pairs), sum(y.success > x.success for x, y in pairs)
    return Comparison(
        success_a=wilson(sum(x.success for x, _ in pairs), len(pairs)),
        success_b=success_b,
        success=success,
        max_reward=paired_difference([x.max_reward for x, _ in pairs], [y.max_reward for _, y in pairs]),
        discordant=discordant,
        p_value=float(stats.binomtest(discordant[0], sum(discordant)).pvalue) if any(discordant) else 1.0,
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
