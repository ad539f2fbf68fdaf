"""The plain renderer: right way up, no collision shapes, clear errors, nothing left behind."""

from __future__ import annotations

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from robopolicy.errors import RenderingError
from sim.gl import probe_gl
from sim.lift import LiftExpert, LiftSimulation
from sim.lift import make_robot as make_lift
from sim.reach import make_robot as make_reach
from sim.rendering import PlainRenderer

SCENE = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0"/><quality shadowsize="512" offsamples="2"/></visual>
  <worldbody>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <geom name="above" type="box" pos="0 0 0.5" size="0.3 0.3 0.3" rgba="1 0 0 1" group="1"/>
    <geom name="below" type="box" pos="0 0 -0.5" size="0.3 0.3 0.3" rgba="0 0 1 1" group="0"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module", autouse=True)
def _needs_gl() -> None:
    try:
        probe_gl()
    except RenderingError as error:
        pytest.skip(str(error))


@pytest.fixture
def scene() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_up_is_up_and_the_size_is_height_by_width(scene: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    renderer = PlainRenderer(scene[0], 40, 60)
    picture = renderer.render(scene[1], "front").astype(int)
    renderer.close()
    assert picture.shape == (40, 60, 3)
    red, blue = picture[..., 0] - picture[..., 2] > 100, picture[..., 2] - picture[..., 0] > 100
    assert red[:20].sum() > 50
    assert blue[20:].sum() > 50
    assert not red[20:].any()
    assert not blue[:20].any()


def test_hides_the_collision_group_and_puts_the_models_settings_back(
    scene: tuple[mujoco.MjModel, mujoco.MjData],
) -> None:
    renderer = PlainRenderer(scene[0], 40, 60, hide_collision_group=True)
    picture = renderer.render(scene[1], "front").astype(int)
    renderer.close()
    assert not (picture[..., 2] - picture[..., 0] > 100).any()
    assert (scene[0].vis.quality.shadowsize, scene[0].vis.quality.offsamples) == (512, 2)


def test_unknown_camera_lists_the_right_ones(scene: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    renderer = PlainRenderer(scene[0], 8, 8)
    with pytest.raises(RenderingError, match="no camera 'side', there are \\['front'\\]"):
        renderer.render(scene[1], "side")
    renderer.close()
    renderer.close()


def test_two_renderers_side_by_side_do_not_disturb_each_other(scene: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    small, large = PlainRenderer(scene[0], 16, 16), PlainRenderer(scene[0], 64, 48)
    before = small.render(scene[1], "front")
    assert large.render(scene[1], "front").shape == (64, 48, 3)
    np.testing.assert_array_equal(small.render(scene[1], "front"), before)
    large.close()
    np.testing.assert_array_equal(small.render(scene[1], "front"), before)
    small.close()


def test_a_renderer_that_nobody_closed_ends_in_silence() -> None:
    code = (
        "import weakref\nclass Early: pass\nearly = Early(); weakref.finalize(early, int)\n"
        "from sim.reach import make_robot\nrobot = make_robot(); robot.render()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_reach_shows_the_effector_where_it_is() -> None:
    robot = make_reach(image_size=120)
    robot.reset(0)
    picture = robot.render().astype(int)
    robot.close()
    red = np.argwhere((picture[..., 0] > 150) & (picture[..., 1] < 100) & (picture[..., 2] < 100))
    assert len(red) > 4
    row, column = red.mean(axis=0)
    assert row > 80
    assert abs(column - 60) < 8


@pytest.mark.parametrize("camera", ["agentview", "robot0_eye_in_hand"])
def test_lift_is_drawn_from_its_cameras(camera: str) -> None:
    robot = make_lift(image_height=60, image_width=84)
    robot.reset(0)
    picture = robot.render(camera)
    robot.close()
    robot.close()
    assert picture.shape == (60, 84, 3)
    assert picture.std() > 10


def test_drawing_does_not_touch_the_physics_not_even_a_grasp() -> None:
    robot = make_lift(image_height=16, image_width=16)
    assert isinstance(robot.simulation, LiftSimulation)

    def run(draw: bool) -> list[bytes]:
        history, states = [robot.reset(3)], []
        expert = LiftExpert(robot.simulation, 3)
        for tick in range(1, 61):
            robot.command(expert.act(history, 0).actions[0], 0)
            if draw:
                robot.render()
            robot.clock.sleep_until(tick * robot.spec.period_ns)
            history = [robot.observe()]
            states.append(b"".join(sample.value.tobytes() for sample in history[0].values()))
        assert robot.outcome().success
        return states

    assert run(draw=True) == run(draw=False)
    robot.close()


def test_a_failing_driver_is_a_rendering_error(
    scene: tuple[mujoco.MjModel, mujoco.MjData], monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = PlainRenderer(scene[0], 8, 8)

    def fail(*arguments: object) -> None:
        raise mujoco.FatalError("the context is lost")

    monkeypatch.setattr(mujoco, "mjr_readPixels", fail)
    with pytest.raises(RenderingError, match="camera 'front' could not be drawn .FatalError: the context is lost"):
        renderer.render(scene[1], "front")
    monkeypatch.setattr(mujoco, "MjrContext", fail)
    with pytest.raises(RenderingError, match="cannot draw images of 8x6 px .FatalError: the context is lost"):
        PlainRenderer(scene[0], 6, 8)
    renderer.close()
