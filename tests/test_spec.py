"""Specs: what they refuse, how they travel as JSON, and how differences are named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.errors import SpecError
from robopolicy.spec import ArraySpec, Part, RobotSpec, check_fits

POSE = ArraySpec(
    (10,),
    parts=(
        Part("position", 3, "position"),
        Part("rotation", 6, "rotation_6d"),
        Part("gripper", 1, "gripper", discrete=True),
    ),
    unit="m",
    low=(-1.0,) * 10,
    high=(1.0,) * 10,
    frame="base",
)
IMAGE = ArraySpec((96, 96, 3), "uint8", calibration={"fx": 70.5, "model": "pinhole"})
ROBOT = RobotSpec("arm", {"pose": replace(POSE, max_age_s=0.2), "front": IMAGE}, POSE, 20.0)

names = st.text("abcdefgh_", min_size=1, max_size=6)
parts = st.builds(
    Part,
    name=names,
    size=st.integers(1, 4),
    kind=st.sampled_from(["position", "joint", "gripper", "other"]),
    mode=st.sampled_from(["absolute", "delta", "rate"]),
    discrete=st.booleans(),
)


@st.composite
def array_specs(draw: st.DrawFn) -> ArraySpec:
    chosen = tuple(draw(st.lists(parts, min_size=1, max_size=4, unique_by=lambda part: part.name)))
    width = sum(part.size for part in chosen)
    low = draw(st.none() | st.lists(st.floats(-9, 0), min_size=width, max_size=width).map(tuple))
    high = draw(st.none() | st.lists(st.floats(0, 9), min_size=width, max_size=width).map(tuple))
    age = draw(st.none() | st.floats(0.01, 2))
    return ArraySpec((width,), "float32", chosen, draw(names), low, high, draw(names), age)


robot_specs = st.builds(
    RobotSpec,
    name=names,
    observations=st.dictionaries(names, array_specs(), max_size=3),
    action=array_specs(),
    rate_hz=st.floats(0.5, 1000),
)


@given(robot_specs)
def test_json_brings_back_the_same_spec(spec: RobotSpec) -> None:
    assert RobotSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_images_and_calibrations_travel_too() -> None:
    assert RobotSpec.from_json(json.loads(json.dumps(ROBOT.to_json()))) == ROBOT


@given(array_specs())
def test_slices_cover_the_last_axis_in_order(spec: ArraySpec) -> None:
    covered = [index for _, place in spec.slices() for index in range(place.start, place.stop)]
    assert covered == list(range(spec.shape[-1]))
    for part, place in spec.slices():
        assert spec.slice_of(part.name) == place


@given(array_specs())
def test_a_spec_does_not_differ_from_itself(spec: ArraySpec) -> None:
    assert spec.differences(spec) == []
    assert spec.differences(replace(spec, max_age_s=None, calibration={"fx": 1.0})) == []


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(SpecError, match=r"no part 'wrist', there are \['position', 'rotation', 'gripper'\]"):
        POSE.slice_of("wrist")


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        (IMAGE, True),
        (ArraySpec((48, 64, 1), "uint16"), True),
        (ArraySpec((8, 8, 3), "float32", (Part("rgb", 3, "image"),)), True),
        (ArraySpec((8, 8, 3), "float32"), False),
        (ArraySpec((3,), "uint8"), False),
    ],
)
def test_what_is_an_image(spec: ArraySpec, image: bool) -> None:
    assert spec.is_image is image


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Part("x", 0), "part 'x' has size 0"),
        (lambda: Part("x", 1, "angle"), "kind 'angle', expected one of position, rotation_6d"),  # type: ignore[arg-type]
        (lambda: Part("x", 1, mode="relative"), "mode 'relative', expected one of absolute"),  # type: ignore[arg-type]
        (lambda: Part("r", 3, "rotation_6d"), "kind rotation_6d has size 3, expected 6"),
        (lambda: Part("q", 3, "quaternion"), "expected 4"),
        (lambda: ArraySpec((0,)), "has an empty axis"),
        (lambda: ArraySpec((3,), parts=(Part("x", 2),)), r"\['x'\] cover 2 values, the last axis has 3"),
        (lambda: ArraySpec((2,), parts=(Part("x", 1), Part("x", 1))), "are not unique"),
        (lambda: ArraySpec((2,), low=(0.0,)), "'low' has 1 values, the last axis has 2"),
        (lambda: ArraySpec((1,), low=(2.0,), high=(1.0,)), "lower limit lies above"),
        (lambda: ArraySpec((1,), low=(float("nan"),), high=(1.0,)), "lower limit lies above"),
        (lambda: RobotSpec("arm", {}, POSE, 0.0), "rate_hz 0.0, expected a positive number"),
        (lambda: RobotSpec("arm", {}, POSE, float("inf")), "rate_hz inf"),
        (lambda: RobotSpec("arm", {}, ArraySpec((2, 2)), 10.0), r"shape \(2, 2\), expected one axis"),
    ],
)
def test_malformed_specs_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        make()


def test_the_period_is_whole_nanoseconds() -> None:
    assert ROBOT.period_ns == 50_000_000
    assert replace(ROBOT, rate_hz=30.0).period_ns == 33_333_333


def test_selecting_streams() -> None:
    assert list(ROBOT.select(["front"]).observations) == ["front"]
    assert ROBOT.select(["front"]).action == ROBOT.action
    with pytest.raises(SpecError, match=r"no stream \['wrist'\], there are \['front', 'pose'\]"):
        ROBOT.select(["wrist"])


def test_a_policy_fits_a_robot_with_more_streams() -> None:
    check_fits(ROBOT.select(["pose"]), ROBOT, who="policy", whom="task")
    check_fits(ROBOT, replace(ROBOT, name="another"), who="policy", whom="task")


@pytest.mark.parametrize(
    ("offered", "sentence"),
    [
        (ROBOT.select(["pose"]), r"policy a does not fit task b: stream 'front' is missing, there are \['pose'\]"),
        (replace(ROBOT, rate_hz=10.0), "rate_hz is 10, expected 20"),
        (replace(ROBOT, action=replace(POSE, unit="mm")), "action: unit is 'mm', expected 'm'"),
        (replace(ROBOT, action=replace(POSE, high=(2.0,) * 10)), r"action: high is \(2.0"),
        (replace(ROBOT, action=replace(POSE, high=None)), "action: high is None"),
        (
            replace(ROBOT, action=replace(POSE, parts=(Part("all", 10),))),
            r"parts is \[all:other/absolute:10\], expected \[position:position/absolute:3",
        ),
        (
            replace(ROBOT, observations={**ROBOT.observations, "front": ArraySpec((84, 84, 3), "uint8")}),
            r"stream 'front': shape is \(84, 84, 3\), expected \(96, 96, 3\)",
        ),
    ],
)
def test_misfits_are_named(offered: RobotSpec, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        check_fits(ROBOT, offered, who="policy a", whom="task b")


def test_all_misfits_are_in_one_sentence() -> None:
    with pytest.raises(SpecError) as caught:
        check_fits(ROBOT, replace(ROBOT.select(["pose"]), rate_hz=5.0), who="a", whom="b")
    assert str(caught.value).count(";") == 1


def test_limits_may_differ_by_rounding() -> None:
    rounded = replace(POSE, low=tuple(-1.0 + 1e-9 for _ in range(10)))
    assert POSE.differences(rounded) == []


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"name": "arm", "observations": {}, "action": {"shape": [1]}},
        {"name": "arm", "observations": {}, "action": {"shape": [1]}, "rate_hz": "fast"},
        {"name": "arm", "observations": {}, "action": {"shape": [1], "colour": 1}, "rate_hz": 10},
        {"name": "arm", "observations": [], "action": {"shape": [1]}, "rate_hz": 10},
        {"name": "arm", "observations": {}, "action": {"shape": 1}, "rate_hz": 10},
        {"name": "arm", "observations": {}, "action": {"shape": [1], "parts": [{"name": "x"}]}, "rate_hz": 10},
    ],
)
def test_malformed_json_is_one_sentence(broken: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="malformed robot spec"):
        RobotSpec.from_json(broken)


def test_a_spec_that_contradicts_itself_is_refused_from_json_too() -> None:
    data = ROBOT.to_json()
    data["action"]["parts"][0]["size"] = 2
    with pytest.raises(SpecError, match="cover 9 values, the last axis has 10"):
        RobotSpec.from_json(data)


def test_specs_need_no_torch() -> None:
    check = "import sys, robopolicy.spec, robopolicy.rotation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
