"""Pictures: valid SVG that shows what it is given."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from robopolicy.control.actor import chunk_from
from robopolicy.control.loop import EpisodeSummary
from robopolicy.evaluation import pictures
from robopolicy.evaluation.episodes import EpisodeResult, Trace
from robopolicy.spec import ArraySpec, Part, RobotSpec

PERIOD_NS = 50_000_000


def robot_spec(width: int) -> RobotSpec:
    return RobotSpec("arm", {}, ArraySpec((width,), parts=(Part("pose", width),), unit="m"), 20.0)


def result(seed: int, success: bool, rewards: tuple[float, ...]) -> EpisodeResult:
    return EpisodeResult(seed, EpisodeSummary(len(rewards), None, "", success, success, not success, rewards))


def texts(svg: bytes) -> str:
    """The comments that matplotlib writes beside each text drawn as outlines."""
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    return " ".join(line.strip() for line in svg.decode().splitlines() if line.strip().startswith("<!--"))


def test_training_curve_names_what_it_shows() -> None:
    records = [{"step": float(i), "loss": 1 / (i + 1)} for i in range(300)] + [{"step": 100.0, "validation_loss": 0.3}]
    drawn = texts(pictures.training_curve(records) or b"")
    for words in ("gradient step", "training (smoothed)", "held-out episodes"):
        assert words in drawn
    assert "held-out" not in texts(pictures.training_curve(records[:-1]) or b"")


def test_a_curve_without_losses_is_none() -> None:
    assert pictures.training_curve([]) is None
    assert pictures.training_curve([{"step": 1.0, "learning_rate": 0.1}, {"step": 2.0, "loss": np.nan}]) is None


def test_smoothing_keeps_length_and_constants() -> None:
    for count in (1, 5, 99, 1000):
        assert np.allclose(pictures._smooth(np.full(count, 3.0)), np.full(count, 3.0))
    assert abs(pictures._smooth(np.random.default_rng(0).normal(size=5000)).std()) < 0.2


def test_episode_strip_and_rewards() -> None:
    results = [result(500 + i, i % 3 > 0, (0.1 * i, 0.2)) for i in range(30)]
    assert "500" in texts(pictures.episode_strip(results))
    assert "best reward" in texts(pictures.reward_curves(results, 10.0) or b"")
    assert pictures.reward_curves([result(1, False, ())], 10.0) is None


@pytest.mark.parametrize(("width", "last"), [(1, "pose (m)"), (3, "pose z (m)"), (20, "pose 16 (m)")])
def test_chunks_of_any_width(width: int, last: str) -> None:
    chunks = tuple(chunk_from(np.ones((4, width)) * k, k * 2 * PERIOD_NS, PERIOD_NS, "policy") for k in range(3))
    trace = Trace(np.arange(6) * PERIOD_NS, np.zeros((6, width)), chunks)
    drawn = texts(pictures.chunk_picture(trace, robot_spec(width)))
    assert last in drawn
    assert "pose 17 (m)" not in drawn


def test_an_episode_without_chunks_is_still_drawn() -> None:
    trace = Trace(np.zeros(0, np.int64), np.zeros((0, 3)), ())
    assert "time (s)" in texts(pictures.chunk_picture(trace, robot_spec(3)))


def test_units_stand_where_they_apply() -> None:
    names = [
        pictures._dimension_names(part, "m")
        for part in (Part("p", 2, "position"), Part("r", 3, "rotation_vector"), Part("g", 1, "gripper"))
    ]
    assert names == [["p x (m)", "p y (m)"], ["r x (rad)", "r y (rad)", "r z (rad)"], ["g"]]


def test_what_actors_say_is_drawn_as_histograms_of_what_varies() -> None:
    won, lost = result(1, True, ()), result(2, False, ())
    won = replace(won, info={"steps": (2.0, 3.0), "evaluations": (7.0, 7.0)})
    lost = replace(lost, info={"steps": (20.0,), "evaluations": (7.0,)})
    assert pictures.info_values([won, lost], "steps").tolist() == [2.0, 3.0, 20.0]
    drawn = texts(pictures.info_histograms([won, lost]) or b"")
    assert "steps" in drawn
    assert "evaluations" not in drawn
    assert pictures.info_histograms([result(1, True, ())]) is None


def test_the_same_data_give_the_same_file() -> None:
    results = [result(1, True, (0.5, 1.0))]
    assert pictures.episode_strip(results) == pictures.episode_strip(results)
