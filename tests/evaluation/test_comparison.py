"""Paired comparison of two evaluations."""

from __future__ import annotations

import json

import pytest

from robopolicy.control.loop import EpisodeSummary
from robopolicy.errors import ConfigError
from robopolicy.evaluation.comparison import compare
from robopolicy.evaluation.episodes import EpisodeResult


def result(seed: int, success: bool, reward: float) -> EpisodeResult:
    return EpisodeResult(seed, EpisodeSummary(10, None, "", success, success, not success, (0.0, reward)))


def evaluation(successes: int, count: int, first_seed: int = 100) -> list[EpisodeResult]:
    return [result(first_seed + i, i < successes, 0.9 if i < successes else 0.2) for i in range(count)]


def test_pairs_are_found_by_seed_not_by_order() -> None:
    a, b = evaluation(80, 100), evaluation(70, 100)
    assert compare(a, b) == compare(a[::-1], b)


def test_the_difference_and_its_verdict() -> None:
    comparison = compare(evaluation(330, 400), evaluation(300, 400))
    assert comparison.success.estimate == pytest.approx(30 / 400)
    assert comparison.max_reward.estimate == pytest.approx(0.7 * 30 / 400)
    assert comparison.discordant == (30, 0)
    assert comparison.not_worse is True
    assert not comparison.saturated
    assert "+0.075" in str(comparison)
    assert "not worse" in str(comparison)


def test_a_clearly_worse_method_is_not_shown_to_be_not_worse() -> None:
    assert compare(evaluation(60, 100), evaluation(80, 100)).not_worse is False


def test_few_pairs_and_saturated_tasks_are_said() -> None:
    comparison = compare(evaluation(50, 50), evaluation(50, 50))
    assert comparison.not_worse is None
    assert comparison.saturated
    assert "undecided" in str(comparison)
    assert "outside 60 to 85 %" in str(comparison)
    assert json.loads(json.dumps(comparison.json()))["not_worse"] is None


def test_different_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"only in the first: 5 \(100, 101, 102, \.\.\.\), only in the second: 5"):
        compare(evaluation(5, 10), evaluation(5, 10, first_seed=105))
    with pytest.raises(ConfigError, match="only in the second: 1 \\(110\\)"):
        compare(evaluation(5, 10), evaluation(5, 11))
    with pytest.raises(ConfigError, match="2 results have only 1 different seeds"):
        compare([result(1, True, 1.0)] * 2, evaluation(1, 1))
