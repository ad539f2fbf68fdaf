"""An episode file while it is being written: a zip under a temporary name that becomes an episode in one rename.

A crash at any moment leaves either the committed file or a `.partial` one that readers ignore. The writing process
holds a lock on the partial file, so a later one can tell an abandoned recording (and write over it) from a running one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zipfile
from pathlib import Path
from typing import BinaryIO

from robopolicy.errors import DatasetError
from robopolicy.files import PARTIAL_SUFFIX, sync_folder

SYNC_BYTES = 4 << 20
"""Written data go to the disk in portions of this size, so that little is left when an episode ends."""

_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


class EpisodeFile:
    """Members are added from any thread; `commit` or `discard` ends it. Both may be called again, then do nothing.

    Raises DatasetError when `path` is there already, or when another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._file = _locked(self.partial, path)
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced = 0
        self._open = True

    def add(self, name: str, data: bytes) -> None:
        """Appends one member; now and then also waits for the disk, but holds no other thread up meanwhile."""
        with self._lock:
            info = zipfile.ZipInfo(name, _FIXED_DATE)
            info.external_attr = 0o644 << 16
            self._zip.writestr(info, data)
            self._unsynced += len(data)
        if self._unsynced > SYNC_BYTES and self._syncing.acquire(blocking=False):
            try:
                self._sync_portion()
            finally:
                self._syncing.release()

    def commit(self) -> Path:
        """Writes the zip's directory, waits for the disk, gives the file its name and waits for the folder."""
        if self._open:
            self._zip.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self.partial.rename(self.path)
            sync_folder(self.path.parent)
            self._close()
        return self.path

    def discard(self) -> None:
        """Removes the partial file."""
        if self._open:
            self.partial.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a full disk, perhaps: the file is gone, only the handles remain
                self._zip.close()
            with contextlib.suppress(OSError):
                self._close()

    def _close(self) -> None:
        self._open = False
        self._file.close()

    def _sync_portion(self) -> None:
        with self._lock:
            self._file.flush()
            self._unsynced = 0
        os.fdatasync(self._file.fileno())


def _locked(partial: Path, final: Path) -> BinaryIO:
    """The empty, locked partial file."""
    while True:
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise DatasetError(f"'{final}' is being written by another process; give it another number") from error
        if _is_same_file(handle, partial):
            break
        os.close(handle)  # its writer renamed or removed it between our open and our lock
    if final.exists():
        partial.unlink()
        os.close(handle)
        raise DatasetError(f"'{final}' is there already; episodes are never overwritten, use the next number")
    os.ftruncate(handle, 0)
    return os.fdopen(handle, "r+b")


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (mine.st_ino, mine.st_dev) == (there.st_ino, there.st_dev)
