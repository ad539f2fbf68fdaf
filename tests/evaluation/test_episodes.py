"""Results to JSON and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from point_robot import PointRobot

from robopolicy.control.loop import EpisodeSummary
from robopolicy.control.robot import SimulatedRobot, StopReason
from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeJob, EpisodeResult, load_results, results_json, success_by_detail
from robopolicy.evaluation.statistics import wilson
from robopolicy.files import write_json

finite = st.floats(allow_nan=False, allow_infinity=False)
summaries = st.builds(
    EpisodeSummary,
    steps=st.integers(0, 1000),
    stop=st.none() | st.sampled_from(StopReason),
    stop_detail=st.text(max_size=20),
    success=st.booleans(),
    terminated=st.booleans(),
    truncated=st.booleans(),
    rewards=st.lists(st.floats(-1e6, 1e6), max_size=20).map(tuple),
    counters=st.dictionaries(st.text(max_size=5), st.integers(0, 99), max_size=3),
)
episodes = st.builds(
    EpisodeResult,
    seed=st.integers(0, 10**6),
    summary=summaries,
    details=st.dictionaries(st.text(max_size=5), finite, max_size=3),
    info=st.dictionaries(st.text(max_size=5), st.lists(finite, max_size=4).map(tuple), max_size=2),
    render_error=st.none() | st.text(max_size=20),
)


@settings(max_examples=40)
@given(results=st.lists(episodes, min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, results: list[EpisodeResult]) -> None:
    path = tmp_path_factory.mktemp("run") / "result.json"
    write_json(path, results_json(results))
    assert load_results(path) == results


def test_json_has_the_success_rate_and_the_best_rewards() -> None:
    summary = EpisodeSummary(3, None, "", True, True, False, (0.1, 0.7, 0.4))
    lost = EpisodeSummary(3, None, "", False, False, True, ())
    data = results_json([EpisodeResult(1, summary), EpisodeResult(2, lost)])
    assert data["success"]["estimate"] == 0.5
    assert data["max_reward"]["estimate"] == pytest.approx(0.35)
    assert data["episodes"][0]["rewards"] == "0.1 0.7 0.4"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"episodes": [{"seed": 1}]}', '{"episodes": [3]}', '{"episodes": 3}']
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"result\.json is not the result of an evaluation"):
        load_results(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*nothing\.json"):
        load_results(tmp_path / "nothing.json")


def test_a_job_makes_simulated_robots_only() -> None:
    robot = EpisodeJob(PointRobot, max_steps=1).make_robot()
    assert isinstance(robot, SimulatedRobot)
    with pytest.raises(ConfigError, match="the evaluation made a dict, expected a simulated robot"):
        EpisodeJob(dict, max_steps=1).make_robot()  # type: ignore[arg-type]


def test_traces_and_videos_are_not_compared() -> None:
    summary = EpisodeSummary(1, None, "", True, True, False, (1.0,))
    assert EpisodeResult(1, summary, video=b"a") == EpisodeResult(1, summary)
    assert EpisodeResult(1, summary).max_reward == 1.0
    assert np.isclose(EpisodeResult(1, EpisodeSummary(0, None, "", False, False, True, ())).max_reward, 0.0)


def test_success_is_told_for_each_value_of_a_detail_with_few_of_them() -> None:
    def made(seed: int, success: bool, **details: float) -> EpisodeResult:
        return EpisodeResult(seed, EpisodeSummary(3, None, "", success, success, not success, ()), details)

    results = [
        made(
            seed, seed % 4 == 0, goal=float(seed % 2), distance=0.1 * seed, always=1.0, **{"late": 1.0} if seed else {}
        )
        for seed in range(12)
    ]
    rates = success_by_detail(results)
    assert list(rates) == ["goal"]
    assert [(value, rate.estimate, rate.count) for value, rate in rates["goal"].items()] == [
        ("0", 0.5, 6),
        ("1", 0.0, 6),
    ]
    assert rates["goal"]["0"] == wilson(3, 6)
    assert results_json(results)["success_by_detail"]["goal"]["1"]["high"] == wilson(0, 6).high
    assert success_by_detail(results[:3]) == {}
