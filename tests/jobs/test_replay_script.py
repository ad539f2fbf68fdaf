"""`scripts/replay.py`: recorded episodes again, from their seed or state, and an honest verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from script_runs import output_of, refusal_of

from robopolicy.configuration import load, plain
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.importers.arrays import write_episode
from robopolicy.errors import DatasetError
from robopolicy.jobs.replay import Agreement, replay_episode
from sim.pusht import make_robot as make_pusht
from sim.reach import make_robot as make_reach
from sim.robot import SimRobot

REACH = plain(load("replay", ["task=reach"]).task)
PUSHT = plain(load("replay", ["task=pusht"]).task)
EXACT = Agreement({"effector_position": slice(None)}, 0.0, False, "m", "all streams")
BLOCK = Agreement({"block_pose": slice(0, 2)}, 2.0, True, "px", "block_pose position")


def copy_of(recorded: Episode, path: Path, **metadata: Any) -> Episode:
    """The same rows with other metadata."""
    dataset = Dataset.create(path, spec=make_reach().spec, task="reach", versions={})
    observations = {"effector_position": recorded.read("observation/effector_position")}
    facts: dict[str, Any] = {"source": "script", "stop_reason": "copied", "success": True, "metadata": metadata}
    write_episode(dataset, 0, observations, recorded.read("action"), **facts)
    return dataset.episodes[0]


def pushed(robot: SimRobot, path: Path, ticks: int) -> Episode:
    """A recorded push at the block, from a state; its seed is a wrong one."""
    robot.restore(np.array([200.0, 150.0, 200.0, 300.0, 0.5]))
    rows, actions = [], []
    for tick in range(ticks):
        target = np.array([200.0, 150.0 + 12 * tick])
        rows.append({name: sample.value for name, sample in robot.observe().items()})
        actions.append(target)
        robot.command(target, 0)
        robot.clock.sleep_until((tick + 1) * robot.spec.period_ns)
    dataset = Dataset.create(path, spec=robot.spec, task="pusht", versions={})
    observations = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    facts: dict[str, Any] = {"source": "human", "stop_reason": "made", "success": None, "metadata": {"seed": 5}}
    write_episode(dataset, 0, observations, np.array(actions), **facts)
    return dataset.episodes[0]


def test_every_collected_episode_replays_exactly(reach_data: Path, tmp_path: Path) -> None:
    text = output_of("replay", "task=reach", f"data={reach_data}", "run_folder=run", cwd=tmp_path)
    assert "of 6 episodes went as recorded (all streams throughout: equal)" in " ".join(text.split())
    assert "success: 6 of 6, in the recording 6 of 6" in text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["filter_changes"] == 0
    assert result["within"]["estimate"] == 1.0
    assert [episode["errors"] for episode in result["episodes"]] == [{"effector_position": 0.0}] * 6
    lengths = [episode.length for episode in Dataset.open(reach_data).episodes]
    assert [episode["steps"] for episode in result["episodes"]] == lengths


def test_one_episode_can_be_chosen(reach_data: Path, tmp_path: Path) -> None:
    options = ("replay", "task=reach", f"data={reach_data}", "run_folder=run")
    output_of(*options, "episode=3", cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [episode["episode"] for episode in result["episodes"]] == [3]
    sentence = refusal_of(*options, "episode=77", cwd=tmp_path)
    assert sentence.endswith("has no episode 77, so there is nothing to replay")
    assert refusal_of(*options, "robot=ur5e", cwd=tmp_path) == "robot=ur5e is unknown, expected sim"


def test_a_replay_from_another_start_is_not_as_recorded(reach_data: Path, tmp_path: Path) -> None:
    recorded = copy_of(Dataset.open(reach_data).episodes[0], tmp_path / "copy", seed=1234)
    replayed = replay_episode(make_reach(), recorded, REACH, EXACT)
    assert not replayed.within
    assert replayed.errors["effector_position"] > 0


def test_an_episode_without_a_beginning_is_refused(reach_data: Path, tmp_path: Path) -> None:
    recorded = copy_of(Dataset.open(reach_data).episodes[0], tmp_path / "copy")
    with pytest.raises(DatasetError, match="has neither a seed nor a start state"):
        replay_episode(make_reach(), recorded, REACH, EXACT)


def test_changes_by_the_filter_are_counted(reach_data: Path) -> None:
    recorded = Dataset.open(reach_data).episodes[0]
    replayed = replay_episode(make_reach(), recorded, {**REACH, "step_limits": {"position": 0.01}}, EXACT)
    assert replayed.changes > 0
    assert not replayed.within


def test_a_task_that_names_its_state_starts_from_it_not_from_the_seed(tmp_path: Path) -> None:
    robot = make_pusht()
    recorded = pushed(robot, tmp_path / "pusht", ticks=25)
    moved = recorded.read("observation/block_pose")[[0, -1], :2]
    assert np.linalg.norm(moved[1] - moved[0]) > 20
    replayed = replay_episode(robot, recorded, PUSHT, BLOCK)
    assert replayed.within
    assert replayed.errors["block_pose"] < 0.1
    assert (replayed.steps, replayed.changes, replayed.recorded_success) == (25, 0, None)
    from_seed = replay_episode(robot, recorded, {**PUSHT, "replay": None}, BLOCK)
    assert from_seed.errors["block_pose"] > 20


def test_the_end_alone_or_every_row_is_compared(reach_data: Path) -> None:
    recorded = Dataset.open(reach_data).episodes[0]
    positions = recorded.read("observation/effector_position").copy()
    seen = [{"effector_position": Sample(row, 0, 0)} for row in positions]
    seen[3] = {"effector_position": Sample(positions[3] + np.array([0.03, 0.04], dtype=np.float32), 0, 0)}
    place = {"effector_position": slice(None)}
    everywhere = Agreement(place, 0.0, False, "m", "").errors(seen, recorded)
    assert everywhere["effector_position"] == pytest.approx(0.05, abs=1e-6)
    assert Agreement(place, 0.0, True, "m", "").errors(seen, recorded) == {"effector_position": 0.0}
    assert Agreement(place, 0.0, True, "m", "").errors(seen[:4], recorded)["effector_position"] > 0.04
