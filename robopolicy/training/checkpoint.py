"""Checkpoints: a folder with weights in safetensors and everything else in JSON. Nothing in it is unpickled.

    <run>/checkpoints/step_00012000/weights.safetensors    averaged weights and normalisation
    <run>/checkpoints/step_00012000/policy.json            configuration, specs, dataset, versions, seeds, commit
    <run>/checkpoints/step_00012000/training.pt            optimiser and average (only for resuming)

A checkpoint is written under another name, synced, and renamed when it is complete; the newest complete one counts.
Other trained things are kept in the same way, with their own document: a critic's is `critic.json` (`Kind`).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from robopolicy.errors import CheckpointError, RobopolicyError, SpecError
from robopolicy.files import sync_folder, write_json
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import PolicyModule
from robopolicy.spec import RobotSpec

SCHEMA_VERSION = 2
Kind = Literal["policy", "critic"]
"""What a checkpoint holds; its document is `<kind>.json`, and the script that writes it `<maker>.py`."""
_MAKERS: Mapping[Kind, str] = {"policy": "train", "critic": "critic"}
_KEEP = 2

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Description:
    """What `policy.json` or `critic.json` says.

    Attributes:
        config: `policy`, `horizon` and perhaps `goals`, enough for `make_policy`; or `critic`.
        spec: the robot through the streams of the policy or the critic.
        task, dataset, seed: what it was trained on; `dataset` holds path-free facts (fingerprint, episodes, versions).
        step: optimiser steps taken.
        versions, commit: of the code that wrote it.
    """

    config: Mapping[str, Any]
    spec: RobotSpec
    task: str
    dataset: Mapping[str, Any]
    seed: int
    step: int
    versions: Mapping[str, str]
    commit: str

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **vars(self), "spec": self.spec.to_json()}


def save(
    run: Path,
    module: nn.Module,
    description: Description,
    training: Mapping[str, Any] | None,
    kind: Kind = "policy",
) -> Path:
    """Writes a checkpoint of `run` and removes all but the newest ones; None: `training` cannot resume from it."""
    folder = run / "checkpoints" / f"step_{description.step:08d}"
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file({name: tensor.contiguous().cpu() for name, tensor in module.state_dict().items()}, _weights(unfinished))
    if training is not None:
        torch.save(dict(training), unfinished / "training.pt")
    for path in unfinished.iterdir():
        _sync(path)
    write_json(_document(unfinished, kind), description.to_json(), durable=True)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    for old in _complete(run, kind)[:-_KEEP]:
        shutil.rmtree(old)
    return folder


def newest(run: Path, kind: Kind = "policy") -> Path:
    """The newest complete checkpoint of a run folder, or the folder itself if it is one."""
    if _document(run, kind).is_file():
        return run
    found = _complete(run, kind)
    if not found:
        if not run.exists():
            raise CheckpointError(f"{run} does not exist, expected a folder that {_MAKERS[kind]}.py wrote")
        other: Kind = "critic" if kind == "policy" else "policy"
        if _document(run, other).is_file() or _complete(run, other):
            raise CheckpointError(f"{run} holds a {other}, expected a {kind}, as {_MAKERS[kind]}.py writes")
        raise CheckpointError(
            f"{run} has no checkpoint: expected {run}/checkpoints/step_*/{kind}.json, as {_MAKERS[kind]}.py writes"
        )
    return found[-1]


def load(run: Path) -> tuple[PolicyModule, Description]:
    """The policy of the newest checkpoint in evaluation mode, and its description. Raises CheckpointError."""
    folder = newest(run)
    description = read_description(folder)
    return restored(folder, lambda: make_policy(description.config, description.spec)), description


def restored(folder: Path, make: Callable[[], Module], kind: Kind = "policy") -> Module:
    """What `make` makes with the weights of a checkpoint folder, in evaluation mode. Raises CheckpointError."""
    try:
        module = make()
        weights = load_file(_weights(folder))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{_weights(folder)} cannot be read ({error}): copy the checkpoint again") from error
    except RobopolicyError as error:
        raise CheckpointError(f"{_document(folder, kind)}: {error}") from error
    _load_strictly(module, weights, folder, kind)
    return module.eval()


def read_description(folder: Path, kind: Kind = "policy") -> Description:
    """What the document of a checkpoint folder says. Raises CheckpointError."""
    path = _document(folder, kind)
    try:
        data = json.loads(path.read_text())
        version = data.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise CheckpointError(f"{path} has schema version {version}, this code reads {SCHEMA_VERSION}")
        return Description(**{**data, "spec": RobotSpec.from_json(data["spec"])})
    except (OSError, ValueError, KeyError, TypeError, SpecError) as error:
        raise CheckpointError(f"{path} is missing or malformed: {type(error).__name__} {error}") from error


def load_training_state(folder: Path) -> dict[str, Any]:
    """Weights as trained, optimiser, schedule and average of a checkpoint."""
    path = folder / "training.pt"
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__}): training cannot resume here") from error
    return state


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a checkpoint computes."""
    names = ("robopolicy", "torch", "numpy", "diffusers", "zarr")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def commit() -> str:
    """The git commit of this code with `+` for uncommitted changes, or "unknown" outside a repository."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _weights(folder: Path) -> Path:
    return folder / "weights.safetensors"


def _document(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind}.json"


def _complete(run: Path, kind: Kind) -> list[Path]:
    return sorted(path for path in (run / "checkpoints").glob("step_*") if _document(path, kind).is_file())


def _load_strictly(module: nn.Module, weights: Mapping[str, torch.Tensor], folder: Path, kind: Kind) -> None:
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or extra:
        raise CheckpointError(f"{_weights(folder)} does not fit its {kind}.json: missing {missing}, unknown {extra}")
    for name, tensor in wanted.items():
        if tensor.shape != weights[name].shape:
            raise CheckpointError(
                f"{_weights(folder)}: '{name}' has shape {list(weights[name].shape)}, expected {list(tensor.shape)}"
            )
    module.load_state_dict(dict(weights))
