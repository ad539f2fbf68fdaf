"""Writing files so that a reader sees all of one or what was there before, whenever the machine stops.

Each file is written under a temporary name beside its place and renamed. With `durable=True` it also waits for the
disk, the file first and then its folder, so that what was written is there after a power cut. No torch, no Hydra.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL_SUFFIX = ".partial"
"""Ends the names of files and folders that are not complete yet."""


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes `data` in one step; makes the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _partial_file(path, data, durable) as partial:
        partial.replace(path)
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path, data: Mapping[str, Any], *, durable: bool = False) -> None:
    """`write_text` of `data` as JSON. NaN is refused (ValueError), as is what has no JSON form (TypeError)."""
    write_text(path, to_json(data, indent=2) + "\n", durable=durable)


def write_new(path: Path, data: bytes) -> None:
    """Writes `data` durably, or raises FileExistsError because `path` is there: of two processes one wins."""
    with _partial_file(path, data, durable=True) as partial:
        path.hardlink_to(partial)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(data: Mapping[str, Any], indent: int | None = None) -> str:
    """Strict JSON: paths become strings, NumPy scalars and arrays numbers and lists. Raises ValueError or TypeError."""
    return json.dumps(data, indent=indent, default=_plain, allow_nan=False)


@contextmanager
def _partial_file(path: Path, data: bytes, durable: bool) -> Iterator[Path]:
    """A file beside `path` that holds `data`; gone afterwards, unless it was renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL_SUFFIX}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form")
