"""What every script shares: exit codes, sentences, the run folder and `result.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from robopolicy import configuration
from robopolicy.command import Run, command
from robopolicy.errors import DatasetError


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a main function as the script `cook.py` with the given command line."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "cook.yaml").write_text("run_folder: runs/now_cook\nsalt: 1\nplate: round\n")
    (configs / "serve.yaml").write_text("run_folder: runs/now_serve\nguest: ???\ntable: ???\n")
    monkeypatch.setattr(configuration, "CONFIG_FOLDER", configs)
    monkeypatch.chdir(tmp_path)

    def start(main: Callable[[DictConfig, Run], Mapping[str, Any]], *arguments: str, name: str = "cook") -> None:
        monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
        command(name)(main)()

    return start


def cook(config: DictConfig, run: Run) -> Mapping[str, Any]:
    with run.progress("cooking", 2) as advance:
        advance()
        advance(note="done")
    run.say(f"[salted] {config.salt}")
    return {"salt": config.salt, "value": np.float32(0.5), "array": np.arange(2), "folder": run.folder}


def test_a_run_leaves_its_result(script: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    script(cook, "salt=3")
    result = json.loads(Path("runs/now_cook/result.json").read_text())
    assert result.pop("seconds") >= 0
    assert result.pop("command") == "python scripts/cook.py salt=3"
    assert result == {"salt": 3, "value": 0.5, "array": [0, 1], "folder": "runs/now_cook"}
    assert "[salted] 3" in capsys.readouterr().out


def test_the_run_folder_can_be_chosen(script: Callable[..., None]) -> None:
    script(cook, "run_folder=elsewhere/deep")
    assert Path("elsewhere/deep/result.json").exists()


def fails(config: DictConfig, run: Run) -> Mapping[str, Any]:
    raise DatasetError("data/lift is no dataset: it has no dataset.json")


@pytest.mark.parametrize(
    ("name", "main", "arguments", "sentence"),
    [
        ("cook", fails, [], "error: data/lift is no dataset: it has no dataset.json"),
        ("cook", cook, ["salz=3"], "error: configuration 'cook' has no key 'salz', there are: run_folder, salt, plate"),
        ("cook", cook, ["--fast"], "error: unknown option --fast"),
        ("cook", cook, ["salt=3", "--fast=1"], "error: unknown option --fast=1"),
        ("serve", cook, [], "error: serve.py needs guest=... and table=..."),
        ("serve", cook, ["guest=me"], "error: serve.py needs table=..."),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_1(
    script: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    name: str,
    main: Callable[[DictConfig, Run], Mapping[str, Any]],
    arguments: list[str],
    sentence: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        script(main, *arguments, name=name)
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(sentence)
    assert captured.err.count("\n") == 1
    assert not list(Path().glob("runs/*/*"))


def test_ctrl_c_is_no_traceback(script: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(config: DictConfig, run: Run) -> Mapping[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        script(interrupted)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_keeps_its_traceback(script: Callable[..., None]) -> None:
    def buggy(config: DictConfig, run: Run) -> Mapping[str, Any]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        script(buggy)


def test_hydra_shows_the_configuration(script: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    script(fails, "--cfg", "job", "salt=7")
    assert "salt: 7" in capsys.readouterr().out
