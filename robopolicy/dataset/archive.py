"""The stored members of one zip file, read through a memory map without zarr or zipfile in between.

Members of an episode file are stored, not deflated, so a chunk is a slice of the file. Every read compares the CRC-32
that the zip keeps for each member: damaged data never reach a training batch.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_HEADER_SIZE = 30
_LOCAL_SIGNATURE = b"PK\x03\x04"

_OPEN_FILES = 256


class Member(NamedTuple):
    """Where a member's local header starts, how many bytes it stores, and their CRC-32."""

    header: int
    size: int
    crc: int


class Identity(NamedTuple):
    """Tells a file from another one that later took its name."""

    inode: int
    size: int
    mtime_ns: int


class DamagedFileError(Exception):
    """The zip file is truncated, changed or not what was written; the message says how."""


def identity_of(path: Path) -> Identity:
    """Of the file that has the name `path` now. Raises OSError when there is none."""
    stat = path.stat()
    return Identity(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def read_members(path: Path) -> dict[str, Member]:
    """The zip's directory. Raises DamagedFileError when it is incomplete or a member is compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
        raise DamagedFileError(f"{error}".lower() or "not a zip file") from error
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED:
            raise DamagedFileError(f"member '{info.filename}' is compressed, expected stored members")
    return {info.filename: Member(info.header_offset, info.file_size, info.CRC) for info in infos}


def digest_of(members: dict[str, Member]) -> str:
    """SHA-256 over the members' names, sizes and CRCs: the same content gives the same digest in any order."""
    rows = sorted(f"{name}\0{member.size}\0{member.crc}\n" for name, member in members.items())
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def read_member(path: Path, identity: Identity, member: Member) -> NDArray[np.uint8]:
    """[size] uint8, a read-only view of the mapped file. Raises DamagedFileError when the checksum is wrong."""
    mapped = _mapped(path, identity)
    try:
        signature, name_length, extra_length = _LOCAL_HEADER.unpack_from(mapped, member.header)
        start = member.header + _LOCAL_HEADER_SIZE + name_length + extra_length
        data = np.frombuffer(mapped, dtype=np.uint8, count=member.size, offset=start)
    except (struct.error, ValueError) as error:
        raise DamagedFileError(f"it ends before its member at byte {member.header}") from error
    if signature != _LOCAL_SIGNATURE or zlib.crc32(data.data) != member.crc:
        raise DamagedFileError(f"its member at byte {member.header} does not match its checksum")
    return data


@lru_cache(maxsize=_OPEN_FILES)
def _mapped(path: Path, identity: Identity) -> mmap.mmap:
    """Maps stay open for the files used last; a file that was evicted is mapped again."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        if Identity(stat.st_ino, stat.st_size, stat.st_mtime_ns) != identity:
            raise DamagedFileError("it has changed since it was opened")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
