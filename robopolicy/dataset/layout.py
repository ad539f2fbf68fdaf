"""The names and the Zarr v3 metadata documents inside an episode file.

An episode is one Zarr group; `data/README.md` explains it to users. The documents are a few lines of JSON, written here
by hand so that a recording neither imports zarr nor waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from robopolicy.files import to_json

SCHEMA_VERSION = 1
"""Of dataset.json and of every episode file. A change to the layout raises it and adds a reader for the old one."""

ACTION = "action"
ACTION_REQUESTED = "action_requested"
SOURCE = "source"
TIME_NS = "time_ns"
OBSERVATION = "observation"
OBSERVATION_TIME_NS = "observation_time_ns"
OBSERVATION_SEQUENCE = "observation_sequence"
INFO = "info"
REWARD = "reward"
TERMINATED = "terminated"
TRUNCATED = "truncated"
SUCCESS = "success"

DOCUMENT = "zarr.json"
_EPISODE_NAME = re.compile(r"episode_(\d{6,})\.zarr\.zip")


def episode_name(number: int) -> str:
    """File name of episode `number`."""
    return f"episode_{number:06d}.zarr.zip"


def episode_number(path: Path) -> int | None:
    """The number in a committed episode's file name; None for any other file."""
    match = _EPISODE_NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def group_document(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a group with these attributes."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def array_document(
    shape: Sequence[int],
    chunk_shape: Sequence[int],
    dtype: np.dtype[Any],
    codecs: Sequence[Mapping[str, Any]],
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Metadata of one array with a regular chunk grid and chunk keys like `c/0/0`."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if dtype.kind == "b" else 0,
        "codecs": list(codecs),
        "attributes": dict(attributes or {}),
    }


def chunk_key(name: str, row: int, axes: int) -> str:
    """Member name of the chunk that starts at `row` of an array with `axes` axes, all but the first of one chunk."""
    return f"{name}/c/{row}" + "/0" * (axes - 1)


def group_names(arrays: Iterable[str]) -> list[str]:
    """The groups, apart from the root, that hold `arrays`: each needs a document of its own."""
    parents = {str(parent) for name in arrays for parent in PurePosixPath(name).parents}
    return sorted(parents - {"."})


def to_json_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as it lies in an episode file or in `dataset.json`. Raises ValueError or TypeError."""
    return to_json(document, indent=1).encode()
