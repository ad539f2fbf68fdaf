"""What a robot, a dataset and a policy must agree on: names, shapes, units, limits and rate.

Specs are immutable, compare by value, and travel as JSON inside datasets and checkpoints. Nobody counts columns: an
array's last axis is described by named parts, and code asks for a part by its kind or its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from robopolicy.errors import SpecError

Nanoseconds = int
"""Time on one monotonic clock, int64."""

Kind = Literal["position", "rotation_6d", "rotation_vector", "quaternion", "joint", "gripper", "image", "other"]
Mode = Literal["absolute", "delta", "rate"]

_ROTATION_SIZES: Mapping[str, int] = {"rotation_6d": 6, "rotation_vector": 3, "quaternion": 4}


@dataclass(frozen=True)
class Part:
    """A named slice of an array's last axis.

    Quaternions are (w, x, y, z); a 6-D rotation is the first two columns of the matrix, one after the other
    (Zhou et al., arXiv 1812.07035).
    """

    name: str
    size: int
    kind: Kind = "other"
    mode: Mode = "absolute"
    discrete: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SpecError(f"part '{self.name}' has size {self.size}, expected at least 1")
        if self.kind not in get_args(Kind):
            raise SpecError(f"part '{self.name}' has kind '{self.kind}', expected one of {', '.join(get_args(Kind))}")
        if self.mode not in get_args(Mode):
            raise SpecError(f"part '{self.name}' has mode '{self.mode}', expected one of {', '.join(get_args(Mode))}")
        if self.size != _ROTATION_SIZES.get(self.kind, self.size):
            raise SpecError(
                f"part '{self.name}' of kind {self.kind} has size {self.size}, expected {_ROTATION_SIZES[self.kind]}"
            )


@dataclass(frozen=True)
class ArraySpec:
    """Shape, dtype, meaning and limits of one stream or of the action.

    `low` and `high` bound each element of the last axis (SI units, `unit` says which). A sample older than `max_age_s`
    is a fault; a younger repeat is only counted.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    parts: tuple[Part, ...] = ()
    unit: str = ""
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    frame: str = ""
    max_age_s: float | None = None
    calibration: Mapping[str, object] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise SpecError(f"shape {self.shape} has an empty axis")
        width = self.shape[-1] if self.shape else 0
        if self.parts and sum(part.size for part in self.parts) != width:
            raise SpecError(
                f"parts {[part.name for part in self.parts]} cover {sum(part.size for part in self.parts)} values, "
                f"the last axis has {width}"
            )
        names = [part.name for part in self.parts]
        if len(set(names)) != len(names):
            raise SpecError(f"part names {names} are not unique")
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound is not None and len(bound) != width:
                raise SpecError(f"'{name}' has {len(bound)} values, the last axis has {width}")
        if self.low and self.high and any(not a <= b for a, b in zip(self.low, self.high, strict=True)):
            raise SpecError(f"a lower limit lies above its upper limit: {self.low} and {self.high}")

    @property
    def is_image(self) -> bool:
        """An image is [H, W, C] with one part of kind `image`, or any uint8/uint16 array of three axes."""
        if any(part.kind == "image" for part in self.parts):
            return True
        return len(self.shape) == 3 and self.dtype in ("uint8", "uint16")

    def slices(self) -> Iterator[tuple[Part, slice]]:
        """Each part with its place on the last axis, in order."""
        start = 0
        for part in self.parts:
            yield part, slice(start, start + part.size)
            start += part.size

    def slice_of(self, name: str) -> slice:
        """Where the part `name` lies on the last axis."""
        for part, place in self.slices():
            if part.name == name:
                return place
        raise SpecError(f"no part '{name}', there are {[part.name for part in self.parts]}")

    def differences(self, other: ArraySpec) -> list[str]:
        """Sentences about what a reader of the values would notice; empty when the two are interchangeable."""
        rows = []
        for name in ("shape", "dtype", "parts", "unit", "frame"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                rows.append(f"{name} is {_readable(theirs)}, expected {_readable(mine)}")
        for name in ("low", "high"):
            if not _close(getattr(self, name), getattr(other, name)):
                rows.append(f"{name} is {getattr(other, name)}, expected {getattr(self, name)}")
        return rows


@dataclass(frozen=True)
class RobotSpec:
    """A policy fits a robot when its observations are a subset of the robot's and action spec and rate are equal.

    `rate_hz` is the rate of data, policy steps and loop; servo and camera rates belong to the robot.
    """

    name: str
    observations: Mapping[str, ArraySpec] = field(hash=False)
    action: ArraySpec
    rate_hz: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise SpecError(f"robot '{self.name}' has rate_hz {self.rate_hz}, expected a positive number")
        if len(self.action.shape) != 1:
            raise SpecError(f"robot '{self.name}' has an action of shape {self.action.shape}, expected one axis")

    @property
    def period_ns(self) -> Nanoseconds:
        return round(1e9 / self.rate_hz)

    def select(self, names: list[str]) -> RobotSpec:
        """The same robot seen through some of its streams only."""
        missing = [name for name in names if name not in self.observations]
        if missing:
            raise SpecError(f"robot '{self.name}' has no stream {missing}, there are {sorted(self.observations)}")
        return RobotSpec(self.name, {name: self.observations[name] for name in names}, self.action, self.rate_hz)

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RobotSpec:
        """Raises SpecError when a field is missing, unknown or malformed."""
        try:
            observations = {name: _array_from_json(entry) for name, entry in data["observations"].items()}
            return RobotSpec(str(data["name"]), observations, _array_from_json(data["action"]), float(data["rate_hz"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SpecError(f"malformed robot spec: {type(error).__name__} {error}") from error


def check_fits(wanted: RobotSpec, offered: RobotSpec, *, who: str, whom: str) -> None:
    """Raises SpecError unless `offered` has every stream of `wanted`, the same action and the same rate.

    `who` and `whom` name the two sides in the sentence, for instance "policy runs/a" and "task lift".
    """
    problems = []
    for name, spec in wanted.observations.items():
        if name not in offered.observations:
            problems.append(f"stream '{name}' is missing, there are {sorted(offered.observations)}")
        else:
            problems += [f"stream '{name}': {row}" for row in spec.differences(offered.observations[name])]
    problems += [f"action: {row}" for row in wanted.action.differences(offered.action)]
    if not math.isclose(wanted.rate_hz, offered.rate_hz, rel_tol=1e-9):
        problems.append(f"rate_hz is {offered.rate_hz:g}, expected {wanted.rate_hz:g}")
    if problems:
        raise SpecError(f"{who} does not fit {whom}: " + "; ".join(problems))


def _array_from_json(data: Mapping[str, Any]) -> ArraySpec:
    values = dict(data)
    for name in ("shape", "low", "high"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    values["parts"] = tuple(Part(**part) for part in values.get("parts", ()))
    return ArraySpec(**values)


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in zip(a, b, strict=True))


def _readable(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Part):
        return "[" + ", ".join(f"{part.name}:{part.kind}/{part.mode}:{part.size}" for part in value) + "]"
    return repr(value)
