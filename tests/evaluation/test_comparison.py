"""Paired comparison of two evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robopolicy.control.loop import EpisodeSummary
from robopolicy.errors import ConfigError
from robopolicy.evaluation.comparison import Reference, compare, compare_all, load_reference
from robopolicy.evaluation.episodes import EpisodeResult, results_json
from robopolicy.files import write_json


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


def test_the_p_value_asks_which_of_two_solved_the_pairs_that_only_one_solved() -> None:
    """Six heads in a row: 2 * 2^-6."""
    assert compare(evaluation(10, 20), evaluation(4, 20)).p_value == pytest.approx(2 / 2**6)
    assert compare(evaluation(4, 20), evaluation(10, 20)).p_value == pytest.approx(2 / 2**6)
    assert compare(evaluation(4, 20), evaluation(4, 20)).p_value == 1.0


def test_several_references_are_corrected_for() -> None:
    results = evaluation(10, 20)
    references = [Reference(Path(f"{n}.json"), "lift", evaluation(n, 20)) for n in (2, 9, 4)]
    raw = [compare(results, reference.episodes).p_value for reference in references]
    comparisons = compare_all(results, references)
    expected = [3 * raw[0], 1.0, 2 * raw[2]]
    assert [comparison.p_value for comparison in comparisons] == pytest.approx(expected)
    assert [comparison.reference for comparison in comparisons] == ["2.json", "9.json", "4.json"]
    assert "Holm over 3 references" in str(comparisons[0])
    (alone,) = compare_all(results, references[:1])
    assert alone.p_value == raw[0]
    assert "Holm" not in str(alone)
    assert compare_all(results, []) == []


def test_a_reference_knows_its_task_and_seeds(tmp_path: Path) -> None:
    document = {"settings": {"task": "lift"}, **results_json(evaluation(3, 5))}
    write_json(tmp_path / "result.json", document)
    reference = load_reference(tmp_path / "result.json")
    assert (reference.task, len(reference.episodes)) == ("lift", 5)
    reference.check("lift", range(100, 105))
    with pytest.raises(ConfigError, match="is an evaluation of task 'lift', this one is of 'reach'"):
        reference.check("reach", range(100, 105))
    with pytest.raises(ConfigError, match=r"only in the first: 1 \(105\), only in the second: none"):
        reference.check("lift", range(100, 106))
    write_json(tmp_path / "old.json", results_json(evaluation(3, 5)))
    with pytest.raises(ConfigError, match=r"old\.json does not say of which task it is"):
        load_reference(tmp_path / "old.json")
