"""A policy as an actor: when it is asked, what it is shown, and that episodes do not touch each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from point_robot import POINT_SPEC, PointRobot
from torch import Tensor

from robopolicy.actors.policy import OneRobotActor, PolicyActor
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import Ask, episode, run_episode
from robopolicy.control.robot import Observation, Sample
from robopolicy.denoise.noise import Noise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.policies.policy import Encoded, Horizon

SPEC = POINT_SPEC.select(["position"])


class Halving:
    """Predicts x/2, x/4, ... from the newest position x, plus noise of a given size; remembers what it was shown."""

    spec = SPEC
    horizon = Horizon(observation_steps=3, prediction=4, execution=2)

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.shown: list[Tensor] = []

    def encode(self, observation: Mapping[str, Tensor], noise: Noise | None = None) -> Encoded:
        self.shown.append(observation["position"])
        return Encoded(observation["position"][:, -1:].float())

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        halves = 0.5 ** torch.arange(1, 5).view(1, 4, 1)
        chunk = encoded.condition * halves + self.noise * request.noise.normal(1, (4, 1))[0]
        return Sampled(chunk, torch.full((len(encoded),), 7))

    def normalise(self, actions: Tensor) -> Tensor:
        return actions

    def unnormalise(self, actions: Tensor) -> Tensor:
        return actions

    def loss(self, observation: Mapping[str, Tensor], actions: Tensor, noise: object) -> Tensor:
        return actions.sum()


def seen(*positions: float) -> list[Observation]:
    return [{"position": Sample(np.array([value]), step, step)} for step, value in enumerate(positions)]


def test_a_chunk_begins_one_tick_after_its_observation_and_is_asked_for_every_two_ticks() -> None:
    actor = PolicyActor(Halving(), seed=0, batch_size=4)
    actor.reset(0, seed=9)
    period = SPEC.period_ns
    chunk = actor.act({0: Ask(0, 5 * period, seen(1.0))})[0]
    assert chunk is not None
    assert (chunk.times_ns // period).tolist() == [6, 7, 8, 9]
    assert chunk.actions[:, 0].tolist() == [0.5, 0.25, 0.125, 0.0625]
    assert (chunk.observed_ns, chunk.source, chunk.info["evaluations"]) == (5 * period, "policy", 7.0)
    assert [actor.due(0, tick * period) for tick in (5, 6, 7)] == [False, False, True]
    assert actor.act({0: Ask(1, 6 * period, seen(1.0, 0.5))})[0] is None
    assert (actor.calls, actor.evaluations) == (1, 7)


def test_a_short_history_is_padded_by_its_first_observation() -> None:
    policy = Halving()
    actor = PolicyActor(policy, seed=0, batch_size=1)
    actor.reset(0, seed=0)
    actor.act({0: Ask(1, 0, seen(1.0, 2.0))})
    assert policy.shown[0][0, :, 0].tolist() == [1.0, 1.0, 2.0]


def test_an_episode_does_not_depend_on_the_slots_around_it() -> None:
    alone = PolicyActor(Halving(noise=1.0), seed=3, batch_size=5)
    alone.reset(2, seed=77)
    expected = alone.act({2: Ask(0, 0, seen(1.0))})[2]
    crowd = PolicyActor(Halving(noise=1.0), seed=3, batch_size=5)
    for slot, seed in enumerate((5, 77, 6)):
        crowd.reset(slot, seed)
    answers = crowd.act({slot: Ask(0, 0, seen(float(slot == 1))) for slot in range(3)})
    assert expected is not None
    assert answers[1] is not None
    assert answers[0] is not None
    assert np.array_equal(answers[1].actions, expected.actions)
    assert not np.array_equal(answers[0].actions, expected.actions)


def test_more_slots_than_the_batch_are_answered_in_several_calls() -> None:
    actor = PolicyActor(Halving(), seed=0, batch_size=2)
    for slot in range(5):
        actor.reset(slot, seed=slot)
    answers = actor.act({slot: Ask(0, 0, seen(slot)) for slot in range(5)})
    assert [chunk.actions[0, 0] for chunk in answers.values() if chunk] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert actor.calls == 3


def test_one_robot_runs_through_the_loop_and_every_episode_has_its_own_noise() -> None:
    robot, actor = PointRobot(), OneRobotActor(PolicyActor(Halving(noise=0.01), seed=0, batch_size=1), seed=0)
    ends = []
    for _ in range(2):
        robot.reset(4)
        loop = episode(robot, max_steps=60, action_filter=ActionFilter(SPEC.action), history_steps=3)
        summary = run_episode(loop, actor)
        assert summary.success
        ends.append(robot.observe()["position"].value[0])
    assert ends[0] != pytest.approx(ends[1], abs=1e-12)
