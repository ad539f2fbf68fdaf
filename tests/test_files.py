"""Files appear whole or not at all, and leave nothing beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robopolicy import files
from robopolicy.files import sync_folder, to_json, write_bytes, write_json, write_new, write_text


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    write_json(path, {"a": 1})
    for broken in ({"a": float("nan")}, {"a": np.array([1.0, np.inf])}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, broken)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_arrays_scalars_and_paths_become_plain(tmp_path: Path) -> None:
    data = {"p": Path("a/b"), "i": np.int64(3), "b": np.bool_(True), "one": np.array([2.5]), "m": np.eye(2)}
    plain = {"p": "a/b", "i": 3, "b": True, "one": [2.5], "m": [[1.0, 0.0], [0.0, 1.0]]}
    write_json(tmp_path / "x.json", data)
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads(to_json(data)) == plain


def test_a_full_disk_leaves_what_was_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"before", durable=True)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for write in (lambda: write_bytes(path, b"after", durable=True), lambda: write_new(tmp_path / "new", b"after")):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_durable_is_synced_before_and_its_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        seen.append((Path(f"/proc/self/fd/{handle}").readlink() == tmp_path, (tmp_path / "file").exists()))
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", watched)
    write_text(tmp_path / "file", "text", durable=True)
    assert seen == [(False, False), (True, True)]
    write_text(tmp_path / "other", "text")
    assert len(seen) == 2
    sync_folder(tmp_path)
    assert seen[2] == (True, True)


def test_a_new_file_is_never_written_over(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_neither_torch_nor_hydra_is_needed() -> None:
    code = "import sys, robopolicy.files; sys.exit(bool({'torch', 'hydra', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
