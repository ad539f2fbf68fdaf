"""The index of a dataset: a cache of what each episode file says about itself, so that opening a dataset is quick.

It can be deleted at any time and is rebuilt from the files. An entry counts only for a file of the same name, size and
modification time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robopolicy.dataset.episode import Episode, EpisodeFacts
from robopolicy.dataset.layout import SCHEMA_VERSION
from robopolicy.files import write_bytes

INDEX_FILE = "index.json"


class EpisodeIndex:
    """Episodes of the dataset in `folder`, remembered in memory and in `index.json`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / INDEX_FILE
        self._known: dict[str, tuple[tuple[int, int], Episode]] = {}
        self._stored: Mapping[str, Any] | None = None

    def episodes(self, paths: Sequence[Path]) -> tuple[Episode, ...]:
        """The episodes in the files `paths`. Raises DatasetError when one is damaged."""
        if self._stored is None:
            self._stored = self._load()
        known, is_new = {}, False
        for path in paths:
            key = _key(path)
            before = self._known.get(path.name)
            if before is not None and before[0] == key:
                known[path.name] = before
                continue
            facts = self._stored_facts(path.name, key)
            is_new |= facts is None
            episode = Episode(path, facts)
            _ = episode.facts  # read now: a damaged file is an error here, not in the middle of a training
            known[path.name] = (key, episode)
        self._known = known
        if is_new:
            self._save()
        return tuple(episode for _, episode in known.values())

    def _stored_facts(self, name: str, key: tuple[int, int]) -> EpisodeFacts | None:
        entry = (self._stored or {}).get(name)
        if entry is None or entry["key"] != list(key):
            return None
        return EpisodeFacts.from_json(entry["facts"])

    def _load(self) -> Mapping[str, Any]:
        """Whatever is wrong with a cache, it is as good as none."""
        try:
            data = json.loads(self._file.read_text())
            entries: Mapping[str, Any] = data["episodes"] if data["schema_version"] == SCHEMA_VERSION else {}
            for entry in entries.values():
                EpisodeFacts.from_json(entry["facts"])
                _ = entry["key"]
            return entries
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        entries = {
            name: {"key": list(key), "facts": episode.facts.to_json()} for name, (key, episode) in self._known.items()
        }
        data = json.dumps({"schema_version": SCHEMA_VERSION, "episodes": entries}).encode()
        with contextlib.suppress(OSError):  # a read-only dataset works without its cache
            write_bytes(self._file, data, durable=True)


def _key(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
