"""Where training figures go: one JSON line a record in `metrics.jsonl`, and TensorBoard beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

_FILE = "metrics.jsonl"


class Metrics:
    """Appends records to a run folder. Resuming at a step drops what a former life of the run wrote beyond it."""

    def __init__(self, run: Path, resume_step: int = 0) -> None:
        self._path = run / _FILE
        run.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_metrics(run) if record["step"] <= resume_step]
        self._path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        self._board: Any = SummaryWriter(str(run / "tensorboard"), purge_step=resume_step)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, figure: Figure) -> None:
        self._board.add_figure(name, figure, step, close=False)

    def close(self) -> None:
        self._board.close()


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The records of a run, in order; a last line that a crash cut short is left out."""
    path = run / _FILE
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
