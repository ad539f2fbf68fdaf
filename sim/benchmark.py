"""How fast pictures of one Lift scene are drawn: the plain renderer beside robosuite's own, alternating in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robopolicy.errors import RenderingError
from sim.gl import probe_gl
from sim.lift import make_environment
from sim.rendering import PlainRenderer

CAMERA = "agentview"


def rendering(images: int = 60, size: int = 84, seed: int = 0) -> dict[str, Any]:
    """Images per second (median time of an image) of both renderers, their ratio, and the back end.

    Both draw the same sequence of scenes, [size, size, 3] RGB each, every scene first by one and then by the other.

    Raises RenderingError without a GL back end, or with one that robosuite cannot use.
    """
    backend = probe_gl().name
    if backend != "egl":
        raise RenderingError(f"robosuite draws here with egl only, the working GL back end is {backend}")
    environment = make_environment(has_offscreen_renderer=True, seed=seed)
    model, data = environment.sim.model._model, environment.sim.data._data
    context = environment.sim._render_context_offscreen
    plain = PlainRenderer(model, size, size, hide_collision_group=True)

    def draw_plain() -> NDArray[np.uint8]:
        return plain.render(data, CAMERA)

    def draw_robosuite() -> NDArray[np.uint8]:
        context.gl_ctx.make_current()
        return np.asarray(environment.sim.render(width=size, height=size, camera_name=CAMERA)[::-1])

    seconds: dict[str, list[float]] = {"plain": [], "robosuite": []}
    for number in range(images + 1):
        mujoco.mj_step(model, data)
        for name, draw in (("plain", draw_plain), ("robosuite", draw_robosuite)):
            elapsed = _seconds(draw)
            if number > 0:  # the first image compiles shaders
                seconds[name].append(elapsed)
    plain.close()
    environment.close()
    rates = {name: 1.0 / median(times) for name, times in seconds.items()}
    return {
        "plain_images_per_s": rates["plain"],
        "robosuite_images_per_s": rates["robosuite"],
        "ratio": rates["plain"] / rates["robosuite"],
        "images": images,
        "size": size,
        "gl": backend,
    }


def _seconds(draw: Callable[[], Any]) -> float:
    start = time.perf_counter()
    draw()
    return time.perf_counter() - start
