"""A simulation behind the robot protocol: one class for every task.

A task writes a `Simulation`: its physics, its streams, its reward. `SimRobot` adds what all robots share: the clock
that makes the physics pass, time stamps, sequence numbers and the hold after a stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robopolicy.control.clock import Clock, SimClock
from robopolicy.control.robot import Observation, Outcome, Sample, StopReason
from robopolicy.errors import ConfigError, RenderingError
from robopolicy.spec import ArraySpec, Nanoseconds, Part, RobotSpec

IMAGE = "image"
"""The stream of a simulated camera."""


class Simulation(Protocol):
    """One task's world. It is ready for use (as after `reset(0)`) once constructed.

    Attributes:
        spec: streams, action and rate.
        substep_ns: physics time of one `substep`; a control period is a whole number of them.
        cameras: names that `render` knows.
        default_camera: the one for videos and for the image stream.
        image_size: height and width of a rendered image in px.
    """

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def substep_ns(self) -> Nanoseconds: ...

    @property
    def cameras(self) -> tuple[str, ...]: ...

    @property
    def default_camera(self) -> str: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    def reset(self, seed: int) -> None:
        """A new episode that depends on `seed` alone, bit for bit. The target is the present pose."""

    def observe(self) -> dict[str, NDArray[Any]]:
        """Fresh copies of every stream of the spec. Changes nothing in the physics."""

    def set_target(self, action: NDArray[np.float64]) -> None:
        """What the following sub-steps track: [D], physical units, called once per control tick."""

    def substep(self) -> None:
        """Advances the physics by `substep_ns`."""

    def outcome(self) -> Outcome:
        """Reward, success and termination of the present state."""

    def details(self) -> dict[str, float]:
        """Numbers of the present state that explain the outcome, such as `coverage`."""

    def render(self, camera: str) -> NDArray[np.uint8]:
        """[H, W, 3] RGB. Raises RenderingError without a GL back end or for an unknown camera."""

    def close(self) -> None:
        """Frees what it holds. May be called twice."""


@runtime_checkable
class Restorable(Protocol):
    """A simulation that can be set to a state from a recording."""

    def restore(self, state: NDArray[Any]) -> None:
        """Sets the state exactly; the target is the present pose."""


class SimRobot:
    """A robot whose physics passes while somebody sleeps on its clock.

    Args:
        simulation: the world that this robot owns from now on.
        clock: without one, simulated time that runs as fast as the computer can; with a wall clock, the physics keeps
            pace with it (`PacedClock`).
        image_stream: also observe the default camera, as the stream `image`, [H, W, 3] uint8 RGB. Every observation is
            then a rendering, and raises RenderingError without a GL back end.
    """

    def __init__(self, simulation: Simulation, clock: Clock | None = None, *, image_stream: bool = False) -> None:
        self.simulation = simulation
        self._spec = _with_image(simulation.spec, simulation.image_size) if image_stream else simulation.spec
        physics = SimClock(simulation.substep_ns, simulation.substep)
        self._clock = PacedClock(physics, clock) if clock is not None else physics
        self._held: StopReason | None = None
        self._since_ns = self._clock.now_ns()
        self._commands = 0
        self._ignored = 0
        self._sequence = 0
        self._newest: Observation | None = None

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def default_camera(self) -> str:
        """The camera for videos and for the image stream."""
        return self.simulation.default_camera

    def start(self) -> None:
        """Nothing to connect: a simulation is ready once it exists."""

    def reset(self, seed: int) -> Observation:
        """A new episode that depends on `seed` alone. Also ends a hold: the world is a new one."""
        self.simulation.reset(seed)
        return self._begin()

    def restore(self, state: NDArray[Any]) -> Observation:
        """A new episode from a recorded state. Raises ConfigError for a simulation that cannot be set to one."""
        if not isinstance(self.simulation, Restorable):
            raise ConfigError(f"task {self.spec.name} cannot be set to a recorded state: start it from a seed instead")
        self.simulation.restore(state)
        return self._begin()

    def observe(self) -> Observation:
        """The state at the last sub-step; the same samples until the physics has moved on."""
        now_ns = self._physics_ns
        if self._newest is None or self._stamp_ns(self._newest) != now_ns:
            values = self.simulation.observe()
            if IMAGE in self._spec.observations:
                values[IMAGE] = self.simulation.render(self.simulation.default_camera)
            samples = {name: Sample(value, now_ns, self._sequence) for name, value in values.items()}
            self._newest = MappingProxyType(samples)
            self._sequence += 1
        return self._newest

    def command(self, action: NDArray[np.float64], time_ns: Nanoseconds) -> None:
        """Sets the target that the next sub-steps track. Ignored, and counted, while the robot holds."""
        if self._held is not None:
            self._ignored += 1
            return
        self._commands += 1
        self.simulation.set_target(np.array(action, dtype=np.float64))

    def outcome(self) -> Outcome:
        return self.simulation.outcome()

    def details(self) -> Mapping[str, float]:
        """Numbers that explain the outcome, such as `coverage` or the `side` passed."""
        return self.simulation.details()

    def render(self, camera: str | None = None) -> NDArray[np.uint8]:
        """[H, W, 3] RGB from `camera`, or from the default one."""
        name = camera or self.simulation.default_camera
        if name not in self.simulation.cameras:
            raise RenderingError(f"no camera '{name}' in {self.spec.name}, there are {list(self.simulation.cameras)}")
        return self.simulation.render(name)

    def stop(self, reason: StopReason) -> None:
        """Holds the last target (the start pose before any command) until `recover` or `reset`."""
        if self._held is None:
            self._since_ns = self._physics_ns
            self._held = reason

    def recover(self) -> None:
        self._held = None
        self._since_ns = self._physics_ns

    def health(self) -> Mapping[str, object]:
        """`state` (running or holding), `reason` of a hold, `since_ns`, and how many commands came or were ignored."""
        return {
            "state": "running" if self._held is None else "holding",
            "reason": None if self._held is None else self._held.value,
            "since_ns": self._since_ns,
            "commands": self._commands,
            "ignored_commands": self._ignored,
        }

    def close(self) -> None:
        self.simulation.close()

    def _begin(self) -> Observation:
        self._clock.restart()
        self._commands = self._ignored = self._sequence = 0
        self._newest = None
        self.recover()
        return self.observe()

    @property
    def _physics_ns(self) -> Nanoseconds:
        return self._clock.physics_ns if isinstance(self._clock, PacedClock) else self._clock.now_ns()

    @staticmethod
    def _stamp_ns(observation: Observation) -> Nanoseconds:
        return next(iter(observation.values())).time_ns


def _with_image(spec: RobotSpec, size: tuple[int, int]) -> RobotSpec:
    image = ArraySpec((*size, 3), "uint8", parts=(Part("rgb", 3, "image"),))
    return replace(spec, observations={**spec.observations, IMAGE: image})


class PacedClock:
    """Wall time for a simulation: sleeping first computes the physics up to the deadline, then waits for the wall.

    When the computer is too slow, `now_ns` passes the deadline and the loop counts it as missed, as on a real robot.
    """

    def __init__(self, physics: SimClock, wall: Clock) -> None:
        self._physics = physics
        self._wall = wall
        self._origin_ns = wall.now_ns()

    @property
    def physics_ns(self) -> Nanoseconds:
        """Up to when the physics has been computed, on the wall's time scale."""
        return self._origin_ns + self._physics.now_ns()

    def now_ns(self) -> Nanoseconds:
        return self._wall.now_ns()

    def sleep_until(self, time_ns: Nanoseconds) -> None:
        self._physics.sleep_until(time_ns - self._origin_ns)
        self._wall.sleep_until(time_ns)

    def restart(self) -> None:
        """The next episode's physics begins now."""
        self._physics.restart()
        self._origin_ns = self._wall.now_ns()
