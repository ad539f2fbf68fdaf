"""Plain and fast pictures of a MuJoCo scene: no shadows, no reflections, no multi-sampling, no display.

On a CPU these three are most of the price of a small image. Works for every model that MuJoCo can load, robosuite's
included.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robopolicy.errors import RenderingError
from sim.gl import probe_gl

_FLAGS_OFF = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE)
_COLLISION_GROUP = 0


class PlainRenderer:
    """Draws one model at one size.

    Args:
        model: drawn as it is; its own shadow and multi-sampling settings are ignored.
        height, width: of the image in px.
        hide_collision_group: hides geoms of group 0, where robosuite keeps its collision shapes.

    Raises RenderingError when no GL back end works.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, *, hide_collision_group: bool = False) -> None:
        self._model = model
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        for flag in _FLAGS_OFF:
            self._scene.flags[flag] = 0
        self._options = mujoco.MjvOption()
        self._options.geomgroup[_COLLISION_GROUP] = not hide_collision_group
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        backend = probe_gl()
        with _errors_named(f"{backend.name} cannot draw images of {width}x{height} px"):
            self._context = backend.context_class()(width, height)
            self._context.make_current()
            self._drawing = _drawing_context(model, height, width)
        self._free = weakref.finalize(self, _free, self._context, self._drawing)
        self._free.atexit = False
        atexit.register(self._free)  # after MuJoCo's own registration, so that it runs before the display is gone

    def render(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """[H, W, 3] RGB of the present joint positions, seen from the model's camera of that name.

        Only positions that follow from the joints are brought up to date: the physics goes on as if nobody had looked.
        Raises RenderingError for an unknown camera, or when GL fails.
        """
        self._camera.fixedcamid = self._camera_id(camera)
        for update in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            update(self._model, data)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, everything, self._scene)
        upside_down = np.empty((self._rectangle.height, self._rectangle.width, 3), dtype=np.uint8)
        with _errors_named(f"camera '{camera}' could not be drawn"):
            self._context.make_current()
            mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
            mujoco.mjr_readPixels(upside_down, None, self._rectangle, self._drawing)
        return np.ascontiguousarray(upside_down[::-1])

    def close(self) -> None:
        """Frees the GL context. May be called twice; also happens at exit."""
        self._free()
        atexit.unregister(self._free)

    def _camera_id(self, name: str) -> int:
        number = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA.value, name)
        if number < 0:
            names = [self._model.camera(index).name for index in range(self._model.ncam)]
            raise RenderingError(f"the model has no camera '{name}', there are {names}")
        return int(number)


@contextmanager
def _errors_named(what: str) -> Iterator[None]:
    """Whatever MuJoCo, PyOpenGL or a driver raise inside as RenderingError: each back end has its own errors."""
    try:
        yield
    except Exception as error:
        raise RenderingError(f"{what} ({type(error).__name__}: {error})") from error


def _drawing_context(model: mujoco.MjModel, height: int, width: int) -> mujoco.MjrContext:
    """MuJoCo's side of the current GL context, made for plain pictures; the model's settings are put back."""
    plain = {"offsamples": 0, "shadowsize": 0}, {"offwidth": width, "offheight": height}
    groups = model.vis.quality, model.vis.global_
    before = [{name: getattr(group, name) for name in new} for group, new in zip(groups, plain, strict=True)]
    _set(groups, plain)
    drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    _set(groups, before)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, drawing)
    return drawing


def _set(groups: Sequence[Any], values: Sequence[Mapping[str, int]]) -> None:
    for group, entries in zip(groups, values, strict=True):
        for name, value in entries.items():
            setattr(group, name, value)


def _free(context: Any, drawing: mujoco.MjrContext) -> None:
    context.make_current()
    drawing.free()
    context.free()
