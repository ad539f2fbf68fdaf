"""Hot paths with a simulator: drawing, beside robosuite's own renderer and taking turns, and the control loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robopolicy.control.clock import WallClock
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import episode, run_episode
from robopolicy.errors import RenderingError
from sim.gl import probe_gl
from sim.lift import make_environment
from sim.reach import ReachExpert, ReachSimulation
from sim.rendering import PlainRenderer
from sim.robot import SimRobot

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


def loop(seconds: float = 5.0, rate_hz: float = 200.0, seed: int = 0) -> dict[str, Any]:
    """The loop's own speed and the clock's own lateness, `seconds` each.

    Returns `ticks_per_s`: control ticks of whole `reach` episodes with the scripted expert, resets and physics
    included, as fast as the computer can; and `late_ms`: how late `WallClock` comes back from deadlines at `rate_hz`.
    """
    simulation = ReachSimulation()
    robot, ticks, began = SimRobot(simulation), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or ticks == 0:
        robot.reset(seed)
        action_filter = ActionFilter(robot.spec.action, {"position": 0.08})
        expert = ReachExpert(simulation, seed)
        ticks += run_episode(episode(robot, max_steps=60, action_filter=action_filter), expert).steps
        seed += 1
    robot.close()
    late_ms = _lateness_ms(WallClock(), rate_hz, max(1, round(seconds * rate_hz)))
    percentiles = {f"p{share:g}": float(np.percentile(late_ms, share)) for share in (50, 99, 99.9)}
    return {"ticks_per_s": ticks / elapsed, "rate_hz": rate_hz, "late_ms": {**percentiles, "max": max(late_ms)}}


def _lateness_ms(clock: WallClock, rate_hz: float, ticks: int) -> list[float]:
    period_ns, start_ns, late = round(1e9 / rate_hz), clock.now_ns(), []
    for tick in range(1, ticks + 1):
        clock.sleep_until(start_ns + tick * period_ns)
        late.append((clock.now_ns() - start_ns - tick * period_ns) / 1e6)
    return late


def _seconds(draw: Callable[[], Any]) -> float:
    start = time.perf_counter()
    draw()
    return time.perf_counter() - start
