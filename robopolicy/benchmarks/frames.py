"""Frames that compress like those of a camera: a smooth moving pattern with sensor noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def camera_frames(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """[count, height, width, 3] uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    noise = rng.normal(0.0, 4.0, size=(height, width, 3))
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    for index in range(count):
        phase = 2 * np.pi * index / 30
        waves = [np.sin(9 * x + phase + shift) + np.cos(7 * y * (1 + shift) - phase) for shift in (0.0, 0.6, 1.3)]
        smooth = 127 + 55 * np.stack(waves, axis=-1)
        frames[index] = np.clip(smooth + np.roll(noise, 7 * index, axis=1), 0, 255)
    return frames
