"""Stored simulator states as streams: our own states value for value, robosuite's human ones sensibly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from shared import shared_data

from robopolicy.actors.replay import ReplayActor
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import EpisodeSummary, episode, run_episode
from robopolicy.dataset.importers.osc import osc_to_absolute
from robopolicy.dataset.importers.robosuite_hdf5 import Demonstration, DemonstrationStreams, import_robosuite_hdf5
from robopolicy.errors import ConfigError, DatasetError
from sim.lift import LiftExpert, LiftSimulation, make_robot
from sim.lift_states import read_streams, state_reader
from sim.robot import SimRobot


@pytest.fixture(scope="module")
def robot() -> SimRobot:
    return make_robot()


def simulation_of(robot: SimRobot) -> LiftSimulation:
    assert isinstance(robot.simulation, LiftSimulation)
    return robot.simulation


def state_of(simulation: LiftSimulation, tick: int) -> np.ndarray:
    return np.concatenate([[tick / 20.0], simulation._data.qpos, simulation._data.qvel])


def model_of(names: Sequence[str]) -> str:
    """The joints of a model in this order; all but the cube's have one number."""
    kinds = {"cube_joint0": 'type="free"'}
    joints = "".join(f'<body><joint name="{name}" {kinds.get(name, "")}/></body>' for name in names)
    return f'<mujoco><default><joint armature="1"/></default><worldbody>{joints}</worldbody></mujoco>'


def recorded(robot: SimRobot, ticks: int) -> tuple[Demonstration, dict[str, np.ndarray]]:
    """The expert's first ticks as states in our own layout, and the streams that were seen."""
    simulation = simulation_of(robot)
    seen, states = [robot.reset(1)], [state_of(simulation, 0)]
    expert = LiftExpert(simulation, 1)
    for tick in range(1, ticks):
        robot.command(expert.act([seen[-1]], 0).actions[0], 0)
        robot.clock.sleep_until(tick * robot.spec.period_ns)
        seen.append(robot.observe())
        states.append(state_of(simulation, tick))
    streams = {name: np.stack([row[name].value for row in seen]) for name in robot.spec.observations}
    model = model_of([name.replace("gripper0_right_", "gripper0_") for name in simulation.joints])
    return Demonstration("demo_1", np.zeros((ticks, 7)), np.stack(states), model, {}), streams


def test_our_own_states_give_back_the_streams_that_were_seen(robot: SimRobot) -> None:
    demonstration, streams = recorded(robot, 12)
    read = read_streams(simulation_of(robot), demonstration)
    assert set(read.observations) == set(streams)
    for name, values in streams.items():
        np.testing.assert_allclose(read.observations[name], values, atol=1e-6)
    np.testing.assert_allclose(read.positions, streams["end_effector_pose"][:, :3])
    np.testing.assert_allclose(np.linalg.det(read.rotations), 1.0, atol=1e-6)


def test_joints_are_found_by_their_names_whatever_their_order(robot: SimRobot) -> None:
    demonstration, streams = recorded(robot, 4)
    simulation = simulation_of(robot)
    names = list(simulation.joints)[::-1]
    states = demonstration.states
    assert states is not None
    positions = [states[:, 1:17][:, simulation.joints[name][0]] for name in names]
    velocities = [states[:, 17:][:, simulation.joints[name][1]] for name in names]
    turned = np.concatenate([states[:, :1], *positions, *velocities], axis=1)
    read = read_streams(simulation, replace(demonstration, states=turned, model_xml=model_of(names)))
    np.testing.assert_allclose(read.observations["cube_position"], streams["cube_position"], atol=1e-6)
    assert read.start_state is not None
    np.testing.assert_array_equal(read.start_state, states[0])


def test_states_of_something_else_are_one_sentence(robot: SimRobot) -> None:
    demonstration, _ = recorded(robot, 4)
    states = demonstration.states
    assert states is not None
    slow = states.copy()
    slow[:, 0] *= 2
    for wrong, words in (
        (replace(demonstration, states=None), "demo_1 has no simulator states with their model"),
        (replace(demonstration, model_xml=""), "demo_1 has no simulator states with their model"),
        (replace(demonstration, model_xml="<mujoco>"), "demo_1 has a model that is no XML"),
        (replace(demonstration, model_xml="<mujoco/>"), r"demo_1 has the joints \[\], expected those of lift"),
        (replace(demonstration, model_xml=model_of(["door_hinge"])), r"demo_1 has the joints \['door_hinge'\]"),
        (replace(demonstration, states=states[:, :-1]), r"demo_1 has states of \(31,\) numbers, expected 32"),
        (replace(demonstration, states=slow), "demo_1 was not recorded at 20 Hz"),
    ):
        with pytest.raises(DatasetError, match=words):
            read_streams(simulation_of(robot), wrong)


def test_a_restored_state_is_exact_and_goes_on_as_before(robot: SimRobot) -> None:
    simulation = simulation_of(robot)
    before = robot.reset(6)
    state = state_of(simulation, 0)
    target = np.concatenate([before["end_effector_pose"].value.astype(np.float64), [-1.0]])
    target[:3] += [0.03, -0.02, -0.04]

    def go_on() -> dict[str, np.ndarray]:
        for tick in range(1, 6):
            robot.command(target, 0)
            robot.clock.sleep_until(tick * robot.spec.period_ns)
        return {name: sample.value for name, sample in robot.observe().items()}

    expected = go_on()
    again = robot.restore(state)
    for name, sample in before.items():
        np.testing.assert_array_equal(again[name].value, sample.value)
    for name, values in go_on().items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6)
    with pytest.raises(ConfigError, match=r"a state of lift has 32 numbers, got an array of \(5,\)"):
        robot.restore(np.zeros(5))


@pytest.fixture(scope="module")
def human(
    robot: SimRobot, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Demonstration, DemonstrationStreams]]:
    """What an import of the real file reads."""
    read, pairs = state_reader(), []

    def noted(demonstration: Demonstration) -> DemonstrationStreams:
        pairs.append((demonstration, streams := read(demonstration)))
        return streams

    source, out = shared_data("robosuite_lift") / "demo.hdf5", tmp_path_factory.mktemp("human") / "lift"
    import_robosuite_hdf5(source, out, spec=robot.spec, task="lift", read_streams=noted)
    return pairs


def test_human_demonstrations_begin_on_the_table_and_end_with_the_cube_in_the_hand(
    human: list[tuple[Demonstration, DemonstrationStreams]],
) -> None:
    for _, streams in human:
        cube, hand = streams.observations["cube_position"], streams.positions
        assert 0.8 < cube[0, 2] < 0.84
        assert cube[-1, 2] > 0.84 + 0.02
        assert np.linalg.norm(hand[-1] - cube[-1]) < 0.03
        assert np.linalg.norm(np.diff(hand, axis=0), axis=-1).max() < 0.03
        assert (hand > [-0.2, -0.1, 0.8]).all()
        assert (hand < [0.1, 0.1, 1.1]).all()


def test_human_actions_lift_the_cube_again(
    robot: SimRobot, human: list[tuple[Demonstration, DemonstrationStreams]]
) -> None:
    for demonstration, streams in human:
        assert streams.start_state is not None
        targets = osc_to_absolute(demonstration.actions, streams.positions, streams.rotations)
        robot.restore(streams.start_state)
        summary = replay(robot, targets)
        assert summary.success
        reached = robot.observe()["end_effector_pose"].value[:3]
        np.testing.assert_allclose(reached, streams.positions[summary.steps], atol=2e-3)


def replay(robot: SimRobot, targets: np.ndarray) -> EpisodeSummary:
    action_filter = ActionFilter(robot.spec.action, {"position": 0.12, "rotation": 0.3})
    loop = episode(robot, max_steps=len(targets), action_filter=action_filter)
    return run_episode(loop, ReplayActor(targets, robot.spec.period_ns))
