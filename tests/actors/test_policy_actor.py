"""A policy as an actor: when it is asked, what it is shown, and that episodes do not touch each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from point_robot import POINT_SPEC, PointRobot
from torch import Tensor

from robopolicy.actors.policy import OneRobotActor, PolicyActor
from robopolicy.control.filter import ActionFilter
from robopolicy.control.loop import Ask, episode, run_episode
from robopolicy.control.robot import Observation, Sample
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError
from robopolicy.policies.policy import Encoded, Horizon

SPEC = POINT_SPEC.select(["position"])


class Halving:
    """Predicts x/2, x/4, ... from the newest position x, plus noise of a given size; remembers what it was shown."""

    spec = SPEC
    horizon = Horizon(observation_steps=3, prediction=4, execution=2)

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.shown: list[Tensor] = []
        self.requests: list[Request] = []

    def encode(self, observation: Mapping[str, Tensor]) -> Encoded:
        self.shown.append(observation["position"])
        return Encoded(observation["position"][:, -1:].float())

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        self.requests.append(request)
        halves = 0.5 ** torch.arange(1, 5).view(1, 4, 1)
        chunk = encoded.condition * halves + self.noise * request.noise.normal(1, (4, 1))[0]
        return Sampled(chunk, torch.full((len(encoded),), 7))

    def normalise(self, actions: Tensor) -> Tensor:
        return actions

    def unnormalise(self, actions: Tensor) -> Tensor:
        return actions


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


class Silent(Halving):
    """Knows the energy of its first row only."""

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        energies = torch.tensor([2.0, torch.nan])
        return replace(super().sample(encoded, request), info={"energy": energies})


def test_what_a_sampler_does_not_know_of_a_row_is_left_out() -> None:
    actor = PolicyActor(Silent(), seed=0, batch_size=2)
    for slot in range(2):
        actor.reset(slot, seed=slot)
    chunks = actor.act({slot: Ask(0, 0, seen(1.0)) for slot in range(2)})
    assert [dict(chunk.info) for chunk in chunks.values() if chunk] == [
        {"evaluations": 7.0, "energy": 2.0},
        {"evaluations": 7.0},
    ]


def warm_starts(request: Request) -> list[list[float] | None]:
    """The previous answer of each row, None where there is none."""
    if request.previous is None or request.warm is None:
        return [None] * request.noise.uniform(1).shape[1]
    return [
        row[:, 0].tolist() if warm else None for row, warm in zip(request.previous, request.warm.tolist(), strict=True)
    ]


def test_the_last_answer_comes_back_moved_to_now_with_its_last_action_repeated() -> None:
    policy, period = Halving(), SPEC.period_ns
    actor = PolicyActor(policy, seed=0, batch_size=1, execution=1)
    actor.reset(0, seed=0)
    for tick in (0, 1, 3):
        actor.act({0: Ask(tick, tick * period, seen(1.0))})
    chunk = [0.5, 0.25, 0.125, 0.0625]
    assert [warm_starts(request) for request in policy.requests] == [
        [None],
        [chunk[1:] + chunk[-1:]],
        [chunk[2:] + chunk[-1:] * 2],
    ]


def test_an_answer_that_is_all_past_or_was_forgotten_or_is_of_another_episode_does_not_come_back() -> None:
    policy, period = Halving(), SPEC.period_ns
    actor = PolicyActor(policy, seed=0, batch_size=1)

    def ask(tick: int) -> list[float] | None:
        actor.act({0: Ask(tick, tick * period, seen(1.0))})
        return warm_starts(policy.requests[-1])[0]

    actor.reset(0, seed=0)
    assert [ask(0), ask(4)] == [None, None]
    assert ask(7) is not None
    actor.forget(0)
    assert actor.due(0, 8 * period)
    assert ask(8) is None
    actor.reset(0, seed=1)
    assert ask(9) is None


def test_rows_without_an_answer_are_told_apart_from_those_with_one() -> None:
    policy, period = Halving(), SPEC.period_ns
    actor = PolicyActor(policy, seed=0, batch_size=3, execution=1)
    for slot in range(2):
        actor.reset(slot, seed=slot)
    actor.act({0: Ask(0, 0, seen(1.0))})
    actor.act({slot: Ask(1, period, seen(2.0)) for slot in range(2)})
    kept, fresh, padding = warm_starts(policy.requests[-1])
    assert (kept, fresh, padding) == ([0.25, 0.125, 0.0625, 0.0625], None, None)
    assert policy.requests[-1].known is not None
    assert policy.requests[-1].known.tolist() == [3, 0, 0]


@pytest.mark.parametrize("execution", [0, 5])
def test_more_actions_than_a_chunk_has_or_none_cannot_be_executed(execution: int) -> None:
    with pytest.raises(ConfigError, match=f"execution={execution}, expected 1 to 4"):
        PolicyActor(Halving(), seed=0, batch_size=1, execution=execution)


def test_the_seam_is_how_far_the_new_action_is_from_the_last_answers() -> None:
    actor, period = PolicyActor(Halving(), seed=0, batch_size=1, execution=2), SPEC.period_ns
    actor.reset(0, seed=0)
    first = actor.act({0: Ask(0, 0, seen(1.0))})[0]
    second = actor.act({0: Ask(2, 2 * period, seen(1.0))})[0]
    assert first is not None
    assert second is not None
    assert "seam" not in first.info
    assert second.info["seam"] == pytest.approx(0.5 - 0.125)
