"""What `scripts/publish.py` does: the figures of a run, as JSON, pictures and videos, into `docs/results/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from robopolicy.command import Run
from robopolicy.configuration import plain
from robopolicy.errors import ConfigError
from robopolicy.evaluation import pictures
from robopolicy.evaluation.episodes import load_results
from robopolicy.files import write_bytes, write_json, write_text
from robopolicy.jobs import compositions
from robopolicy.jobs.evaluate import VIDEO_FOLDER
from robopolicy.jobs.train import CONFIG_FILE
from robopolicy.training.metrics import read_metrics

_MOST_RECORDS = 200


def publish(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Writes `<out>/<name>.json` with the training records and the evaluation, the pictures made from it, and the
    videos; or, with `compositions`, their table."""
    if config.compositions is not None:
        return _publish_compositions(config, run)
    if config.run is None or config.evaluation is None:
        raise ConfigError("publish.py needs run=... and evaluation=..., or compositions=[...]")
    trained, evaluation, out = Path(config.run), Path(config.evaluation), Path(config.out)
    results = load_results(evaluation / "result.json")
    records = read_metrics(trained)
    if not records:
        raise ConfigError(f"run={trained} has no metrics.jsonl: expected a folder that train.py wrote")
    evaluated = json.loads((evaluation / "result.json").read_text())
    document = {
        "commands": [_command(trained), _command(evaluation)],
        "training": {"config": yaml.safe_load((trained / CONFIG_FILE).read_text()), "records": _thinned(records)},
        "evaluation": {**evaluated, "episodes": [_short(episode) for episode in evaluated["episodes"]]},
    }
    write_json(out / f"{config.name}.json", document)
    for video in sorted((evaluation / VIDEO_FOLDER).glob("*.mp4")):
        write_bytes(out / f"{config.name}_{video.name}", video.read_bytes())
    written = {"training": pictures.training_curve(records), "episodes": pictures.episode_strip(results)}
    for kind, picture in written.items():
        if picture is not None:
            write_bytes(out / f"{config.name}_{kind}.svg", picture)
    run.say(f"wrote {out / config.name}.json and its pictures")
    return {"name": config.name, "out": str(out)}


def _publish_compositions(config: DictConfig, run: Run) -> Mapping[str, Any]:
    folders, out = plain(config)["compositions"], Path(config.out)
    if not isinstance(folders, list) or not folders:
        raise ConfigError(f"compositions={folders}, expected a list of folders that compose.py wrote")
    document = compositions.summary([Path(str(folder)) for folder in folders])
    write_json(out / f"{config.name}.json", document)
    write_text(out / f"{config.name}.md", compositions.page(document, config.name))
    run.say(f"wrote {out / config.name}.md")
    return {"name": config.name, "out": str(out)}


def _command(folder: Path) -> str:
    """The command line that made a run folder."""
    path = folder / "result.json"
    if not path.is_file():
        raise ConfigError(f"{folder} has no result.json: its command is not finished")
    command: str = json.loads(path.read_text())["command"]
    return command


def _thinned(records: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """All held-out losses and an even selection of the others."""
    held_out = [record for record in records if "validation_loss" in record]
    others = [record for record in records if "validation_loss" not in record]
    every = max(1, len(others) // _MOST_RECORDS)
    return sorted([*held_out, *others[::every]], key=lambda record: record["step"])


def _short(episode: Mapping[str, Any]) -> dict[str, Any]:
    """An episode without its reward at every tick."""
    return {key: value for key, value in episode.items() if key != "rewards"}
