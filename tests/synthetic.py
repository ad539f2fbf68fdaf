"""A small dataset with structure to learn, for tests that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.spec import ArraySpec, Part, RobotSpec

SPEC = RobotSpec(
    "point",
    {"position": ArraySpec((2,), parts=(Part("position", 2, "position"),)), "goal": ArraySpec((1,))},
    ArraySpec((2,), parts=(Part("position", 2, "position"),), low=(-2.0, -2.0), high=(2.0, 2.0)),
    10.0,
)


def make_dataset(path: Path, episodes: int = 6, length: int = 12, task: str = "point") -> Dataset:
    """Straight walks of a point to a goal on the right."""
    dataset = Dataset.create(path, spec=SPEC, task=task, versions={"simulator": "1"})
    for number in range(episodes):
        rng = np.random.default_rng(number)
        position, goal = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 1)
        with dataset.writer(number) as writer:
            for step in range(length):
                action = position + 0.2 * (np.array([1.0, goal[0]]) - position)
                time_ns = step * SPEC.period_ns
                observation = {
                    "position": Sample(position.astype(np.float32), time_ns, step),
                    "goal": Sample(goal.astype(np.float32), time_ns, step),
                }
                writer.record(Tick(step, time_ns, observation, action, action, "script", {}))
                position = action
            writer.commit(stop_reason="terminated", success=True, metadata={"seed": number})
    return dataset
