"""Small robots and recordings for the dataset tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.spec import ArraySpec, RobotSpec

SMALL_SPEC = RobotSpec("small", {"state": ArraySpec((3,))}, ArraySpec((2,)), 10.0)
CAMERA_SPEC = RobotSpec(
    "camera",
    {"state": ArraySpec((3,)), "front": ArraySpec((48, 64, 3), "uint8"), "depth": ArraySpec((24, 32, 1), "uint16")},
    ArraySpec((2,)),
    30.0,
)


def value_of(spec: ArraySpec, rng: np.random.Generator) -> NDArray[Any]:
    """A random sample of a stream; images are smooth, as JPEG expects."""
    if spec.dtype == "uint8":
        y, x = np.mgrid[: spec.shape[0], : spec.shape[1]]
        plane = 127 + 100 * np.sin(x / 9 + rng.uniform(0, 6)) * np.cos(y / 7 + rng.uniform(0, 6))
        return np.repeat(plane[..., None], spec.shape[2], axis=-1).astype(np.uint8)
    if spec.dtype == "uint16":
        return rng.integers(0, 2**16, spec.shape).astype(np.uint16)
    return rng.normal(size=spec.shape).astype(spec.dtype)


def make_tick(spec: RobotSpec, step: int, rng: np.random.Generator, info: Mapping[str, float] | None = None) -> Tick:
    """Row `step` with random values; its action differs from the requested one."""
    now = 1_000_000 + step * spec.period_ns
    samples = {
        name: Sample(value_of(stream, rng), now - 1000 * place, 5 * step + place)
        for place, (name, stream) in enumerate(spec.observations.items())
    }
    action = rng.normal(size=spec.action.shape)
    return Tick(step, now, samples, action, action + 1.0, "human" if step % 3 else "policy", dict(info or {}))


def record_episode(dataset: Dataset, number: int, rows: int, *, success: bool | None = True) -> list[Tick]:
    """Commits a random episode and returns its ticks; the episode's number is its seed."""
    rng = np.random.default_rng(number)
    ticks = [make_tick(dataset.spec, step, rng) for step in range(rows)]
    with dataset.writer(number, wait_for_encoder=True) as writer:
        for tick in ticks:
            writer.record(tick)
        writer.commit(stop_reason="done", success=success, metadata={"seed": number})
    return ticks


def small_dataset(path: Path, lengths: list[int], spec: RobotSpec = SMALL_SPEC, **codecs: str) -> Dataset:
    """A dataset with random episodes of these lengths."""
    dataset = Dataset.create(path, spec=spec, task="test", versions={"simulator": "1"}, codecs=codecs)
    for number, rows in enumerate(lengths):
        record_episode(dataset, number, rows)
    return dataset


def record_for_ever(path: Path, log: Path) -> None:
    """Records episode after episode and appends the number of each committed one to `log`, until it is killed."""
    dataset = Dataset.open_or_create(
        path, spec=CAMERA_SPEC, task="test", versions={}, codecs={"front": "jpeg:80", "depth": "blosc"}
    )
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        number = dataset.next_number()
        record_episode(dataset, number, 6 + number % 7)
        os.write(handle, f"{number}\n".encode())
