"""Bad input ends in one sentence and exit status 1, and leaves nothing behind: one test for each kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from damage import corrupt, put_nan, truncate
from script_runs import NO_GL, output_of, refusal_of
from synthetic import make_dataset

from robopolicy.dataset.layout import episode_name


@pytest.fixture
def copied(reach_data: Path, tmp_path: Path) -> Path:
    """A copy of the reach demonstrations that a test may damage; its file number 2."""
    shutil.copytree(reach_data, tmp_path / "reach")
    return tmp_path / "reach" / episode_name(2)


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("collect", ["task=reach", "episoden=3"], "configuration 'collect' has no key 'episoden', there are: "),
        ("train", ["task=reach", "training.stepz=3"], "configuration 'train' has no key 'training.stepz', there are: "),
        ("eval", ["run=runs/x", "slot=3"], "configuration 'eval' has no key 'slot', there are: "),
        ("replay", ["task=reach", "episodes=3"], "configuration 'replay' has no key 'episodes', there are: "),
        ("data", ["action=info"], "data.py needs data=..."),
        ("bench", ["task=reach", "name=loading"], "configuration 'bench'"),
        ("doctor", ["gl=egl"], "configuration 'doctor' has no key 'gl', there are: run_folder, checks"),
    ],
)
def test_a_wrong_config_key(tmp_path: Path, script: str, arguments: list[str], sentence: str) -> None:
    assert refusal_of(script, *arguments, cwd=tmp_path).startswith(sentence)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train", ["task=reach"]),
        ("replay", ["task=reach"]),
        ("data", ["action=info"]),
        ("data", ["action=verify"]),
        ("data", ["action=delete", "episodes=[1]"]),
    ],
)
def test_a_missing_dataset(tmp_path: Path, script: str, arguments: list[str]) -> None:
    sentence = refusal_of(script, *arguments, "data=data/none", cwd=tmp_path)
    assert sentence.startswith("there is no dataset in 'data/none' (no dataset.json); give a folder made by collect.py")


def test_training_on_another_task(tmp_path: Path) -> None:
    make_dataset(tmp_path / "point")
    assert (
        refusal_of("train", "task=reach", "data=point", cwd=tmp_path)
        == "point holds demonstrations of task 'point', expected 'reach'"
    )


def test_training_on_a_dataset_without_the_streams_of_the_task(tmp_path: Path) -> None:
    make_dataset(tmp_path / "point", task="reach")
    sentence = refusal_of("train", "task=reach", "data=point", cwd=tmp_path)
    assert sentence == "point has no streams ['effector_position'], which task 'reach' needs, only ['goal', 'position']"


@pytest.mark.parametrize("script", ["collect", "replay"])
def test_a_robot_that_the_dataset_does_not_fit(tmp_path: Path, script: str) -> None:
    make_dataset(tmp_path / "point", task="reach")
    sentence = refusal_of(script, "task=reach", f"{'out' if script == 'collect' else 'data'}=point", cwd=tmp_path)
    assert "dataset 'point' does not fit" in sentence
    assert "stream 'position' is missing, there are ['effector_position']" in sentence


@pytest.mark.parametrize("script", ["train", "replay"])
def test_a_truncated_episode_file(copied: Path, tmp_path: Path, script: str) -> None:
    truncate(copied)
    sentence = refusal_of(script, "task=reach", "data=reach", cwd=tmp_path)
    assert sentence.startswith("episode file 'reach/episode_000002.zarr.zip' is damaged (")
    assert "put back a copy, or take it out of the dataset with data.py action=delete" in sentence


@pytest.mark.parametrize("script", ["train", "replay"])
def test_a_corrupted_episode_file(copied: Path, tmp_path: Path, script: str) -> None:
    corrupt(copied)
    sentence = refusal_of(script, "task=reach", "data=reach", cwd=tmp_path)
    assert sentence.startswith("episode file 'reach/episode_000002.zarr.zip' is damaged (array 'action': its member at")


def test_nan_in_the_data(copied: Path, tmp_path: Path) -> None:
    put_nan(copied, "observation/effector_position", row=4)
    sentence = refusal_of("train", "task=reach", "data=reach", "held_out=0", cwd=tmp_path)
    file = "reach/episode_000002.zarr.zip"
    assert sentence == f"'observation/effector_position' in episode file '{file}' is not finite in row 4: [nan, nan]"


def test_a_checkpoint_from_another_robot(reach_run: Path, tmp_path: Path) -> None:
    sentence = refusal_of("eval", f"run={reach_run}", "task=pusht", "episodes=1", cwd=tmp_path)
    assert sentence.startswith(f"the policy of {reach_run} does not fit task 'pusht': ")
    assert "stream 'effector_position' is missing" in sentence


def test_without_gl_the_rendering_benchmark_says_what_to_install(tmp_path: Path) -> None:
    sentence = refusal_of("bench", "name=rendering", cwd=tmp_path, environment=NO_GL)
    assert sentence.startswith("no GL back end draws on this machine")
    assert "libegl1" in sentence


def test_without_gl_the_doctor_says_what_to_install(tmp_path: Path) -> None:
    lines = output_of("doctor", cwd=tmp_path, environment=NO_GL).splitlines()
    line = next(line for line in lines if line.startswith("rendering"))
    assert "no GL back end draws on this machine" in line
    assert "libegl1" in line


def test_without_gl_an_evaluation_goes_on_and_its_report_says_why_there_are_no_videos(
    reach_run: Path, tmp_path: Path
) -> None:
    options = ("episodes=2", "slots=2", "workers=1", "videos=1", "traces=0", "run_folder=run")
    assert "2 episodes" in output_of("eval", f"run={reach_run}", *options, cwd=tmp_path, environment=NO_GL)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "no GL back end draws on this machine" in page
    assert "<video" not in page
