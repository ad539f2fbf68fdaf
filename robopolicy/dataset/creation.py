"""A whole dataset that appears at once: written beside its place, moved there when complete, removed on any error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robopolicy.errors import DatasetError
from robopolicy.files import PARTIAL_SUFFIX, sync_folder

Progress = Callable[[int, int], None]
"""Called with the number of episodes done and of all."""


@contextmanager
def complete_or_nothing(out: Path | str) -> Iterator[Path]:
    """Yields a temporary folder that becomes `out` when the block ends well.

    Raises DatasetError when `out` is there already and not an empty folder.
    """
    final = Path(out).resolve()
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise DatasetError(f"'{out}' is there already; choose a folder that does not exist yet")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        yield partial
        sync_folder(partial)
        partial.rename(final)
        sync_folder(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
