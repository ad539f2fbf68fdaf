"""Episode files that are wrong in one way each."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from robopolicy.dataset.codecs import Blosc
from robopolicy.dataset.episode import Episode
from robopolicy.dataset.layout import chunk_key


def truncate(path: Path) -> None:
    """Cuts the second half off."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def corrupt(path: Path, array: str = "action") -> None:
    """Flips the bits of one byte inside an array's only chunk."""
    key = chunk_key(array, 0, len(Episode(path).shape(array)))
    with zipfile.ZipFile(path) as archive:
        start, stored = archive.getinfo(key).header_offset, archive.read(key)
    data = bytearray(path.read_bytes())
    place = data.index(stored, start) + len(stored) // 2
    data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def remove_array(path: Path, array: str) -> None:
    """Writes the file again without an array, checksums and all."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.startswith(f"{array}/")}
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def put_nan(path: Path, array: str, row: int) -> None:
    """Writes the file again with NaN in one row of an array, checksums and all."""
    episode = Episode(path)
    values = episode.read(array)
    values[row] = np.nan
    key = chunk_key(array, 0, values.ndim)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (members | {key: Blosc(5).encode(values)}).items():
            archive.writestr(name, data)
