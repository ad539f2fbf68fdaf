"""What `scripts/data.py` does: looks into datasets, checks, imports, merges them, and takes episodes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from robopolicy.command import Run
from robopolicy.configuration import build, plain
from robopolicy.dataset.creation import Progress
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.edit import delete, merge, verify
from robopolicy.dataset.importers.arrays import Extract
from robopolicy.dataset.importers.diffusion_policy import import_diffusion_policy
from robopolicy.dataset.importers.robosuite_hdf5 import (
    ReadStreams,
    import_robosuite_hdf5,
    states_or_observations,
    streams_from_observations,
)
from robopolicy.dataset.summary import summarise
from robopolicy.errors import ConfigError, DatasetError
from robopolicy.jobs.task import codecs_of, robot_spec
from robopolicy.spec import RobotSpec

_FORMATS = {"diffusion_policy": (".zarr", ".zarr.zip"), "robosuite_hdf5": (".hdf5", ".h5")}


def data(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Does `config.action` and returns what `result.json` says."""
    if config.action not in _ACTIONS:
        raise ConfigError(f"action={config.action} is unknown, expected one of {', '.join(_ACTIONS)}")
    work, options = _ACTIONS[config.action]
    for name in ("source", "task", "format", "codecs", "episodes", "confirm"):
        if config[name] not in (None, False) and name not in options:
            raise ConfigError(f"action={config.action} takes no {name}=..., leave it out")
    return {"action": config.action, **work(config, run)}


def _info(config: DictConfig, run: Run) -> Mapping[str, Any]:
    summary = summarise(Dataset.open(config.data))
    run.say(str(summary))
    return summary.json()


def _verify(config: DictConfig, run: Run) -> Mapping[str, Any]:
    with _progress(run, "verifying") as progress:
        report = verify(config.data, progress)
    for file in report.unfinished:
        run.say(f"unfinished, ignored by all readers: {file}")
    for problem in report.problems:
        run.say(problem)
    if not report.ok:
        raise DatasetError(
            f"{config.data} has {len(report.problems)} damaged of {report.episodes} episodes (named above): "
            f"put back a copy of them, or take them out with action=delete"
        )
    run.say(f"{config.data}: {report.episodes} episodes with {report.rows} rows are complete and undamaged")
    unfinished = [str(file) for file in report.unfinished]
    return {"data": config.data, "episodes": report.episodes, "rows": report.rows, "unfinished": unfinished}


def _import(config: DictConfig, run: Run) -> Mapping[str, Any]:
    if config.task is None or config.source is None:
        raise ConfigError("action=import needs source=<file or folder> and task=<whose streams it has>")
    source, task = Path(config.source), plain(config.task)
    kind = config.format or _format_of(source)
    if kind not in _FORMATS:
        raise ConfigError(f"format={kind} is unknown, expected one of {', '.join(_FORMATS)}")
    how = (task.get("import") or {}).get(kind)
    if how is None:
        raise ConfigError(f"task '{task['name']}' cannot read {kind}: its YAML file says nothing under import.{kind}")
    common: dict[str, Any] = {
        "spec": robot_spec(task),
        "task": task["name"],
        "versions": {"imported from": f"{kind} {source.name}"},
        "codecs": codecs_of(config),
    }
    with _progress(run, f"importing {source.name}") as progress:
        if kind == "diffusion_policy":
            dataset = import_diffusion_policy(source, config.data, streams=_built(how), progress=progress, **common)
        else:
            read = _stream_reader(how, common["spec"])
            dataset = import_robosuite_hdf5(source, config.data, read_streams=read, progress=progress, **common)
    return _said(run, dataset, f"imported from {source}")


def _built(streams: Mapping[str, Any]) -> dict[str, Extract]:
    """Where each stream comes from: functions are built, names stay."""
    return {name: build(entry) if isinstance(entry, Mapping) else entry for name, entry in streams.items()}


def _stream_reader(how: Mapping[str, Any], spec: RobotSpec) -> ReadStreams:
    """Reads the task's streams from simulator states where a demonstration has them, else from its `obs/`."""
    observed = streams_from_observations(spec, _built(how["observations"]), build(how["pose"]))
    return states_or_observations(build(how["states"]), observed)


def _merge(config: DictConfig, run: Run) -> Mapping[str, Any]:
    if not isinstance(plain(config)["source"], list):
        raise ConfigError("action=merge needs source=[a,b]: the folders of the datasets to merge into data=...")
    with _progress(run, "merging") as progress:
        dataset = merge(list(config.source), config.data, progress)
    return _said(run, dataset, f"merged from {', '.join(config.source)}")


def _delete(config: DictConfig, run: Run) -> Mapping[str, Any]:
    numbers = plain(config)["episodes"]
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers) or not numbers:
        raise ConfigError(f"action=delete needs episodes=[3,5] (their numbers), got episodes={numbers}")
    files = delete(config.data, numbers, confirm=config.confirm)
    names = ", ".join(file.name for file in files)
    if config.confirm:
        run.say(f"moved to {Path(config.data) / 'deleted'}: {names}")
    else:
        run.say(f"would take out {names}: add confirm=true to do it")
    return {"data": config.data, "files": [str(file) for file in files], "deleted": config.confirm}


_Work = Callable[[DictConfig, Run], Mapping[str, Any]]
_ACTIONS: Mapping[str, tuple[_Work, tuple[str, ...]]] = {
    "info": (_info, ()),
    "verify": (_verify, ()),
    "import": (_import, ("source", "task", "format", "codecs")),
    "merge": (_merge, ("source",)),
    "delete": (_delete, ("episodes", "confirm")),
}
"""What each does, and the options that it takes beside `data`."""


def _said(run: Run, dataset: Dataset, how: str) -> Mapping[str, Any]:
    episodes = dataset.episodes
    rows = sum(episode.length for episode in episodes)
    run.say(f"{dataset.path}: {len(episodes)} episodes with {rows} rows, {how}")
    return {"data": str(dataset.path), "episodes": len(episodes), "rows": rows}


def _format_of(source: Path) -> str:
    for name, endings in _FORMATS.items():
        if source.name.endswith(endings):
            return name
    raise ConfigError(f"the name of '{source}' does not tell its format: add format={' or format='.join(_FORMATS)}")


@contextmanager
def _progress(run: Run, label: str) -> Iterator[Progress]:
    with run.progress(label) as advance:
        yield lambda done, total: advance(1, total=total)
