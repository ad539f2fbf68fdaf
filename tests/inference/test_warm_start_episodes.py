"""Real-time iteration over many control steps: convergence, lag, modes and grippers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from warm_starts import (
    COLD,
    ROBOT,
    VP,
    SilentNoise,
    WildDenoiser,
    down_from,
    gains,
    row_noise,
    rti,
    warm_request,
)

from robopolicy.actors.policy import PolicyActor
from robopolicy.benchmarks.samplers import GaussianDenoiser
from robopolicy.control.loop import Ask
from robopolicy.control.robot import Sample
from robopolicy.dataset.statistics import Statistics
from robopolicy.denoise.paths import NoisePath
from robopolicy.denoise.prediction import Prediction
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError
from robopolicy.inference.warm_start import RealTimeIteration
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import Encoded, Horizon
from robopolicy.spec import ArraySpec, RobotSpec

# --- what it does over many control steps -----------------------------------------------------------------------------


@pytest.mark.parametrize("first", [2, 5, 20])
def test_the_mean_converges_to_a_resting_target_with_the_rate_of_the_gain(first: int) -> None:
    sampler, std, target = rti(down_from(first), renoise=False), 0.2, 0.4
    rate, _ = gains(VP, std, sampler)
    alpha = float(VP.alpha(torch.tensor(sampler.levels[0], dtype=torch.float32)))
    guess, quiet = torch.full((1, 1, 1), -0.8, dtype=torch.float64), SilentNoise(1)
    for call in range(1, 6):
        request = Request(quiet, previous=guess, warm=torch.ones(1, dtype=torch.bool))
        guess = sampler(GaussianDenoiser(VP, target, std, (1, 1, 1)), request).normalised
        rest = target * (1.0 - alpha * rate) / (1.0 - rate)  # the guess is read as alpha times an action
        assert float(guess) - rest == pytest.approx(rate**call * (-0.8 - rest), rel=1e-4)


def test_a_renoised_guess_comes_to_rest_at_the_target_itself_and_an_unnoised_one_beside_it() -> None:
    rests = {}
    for renoise in (True, False):
        guess, std, target = torch.zeros(1, 1, 1, dtype=torch.float64), 0.2, 0.4
        for _ in range(200):
            request = Request(SilentNoise(1), previous=guess, warm=torch.ones(1, dtype=torch.bool))
            denoiser = GaussianDenoiser(VP, target, std, (1, 1, 1))
            guess = rti(down_from(5), renoise=renoise)(denoiser, request).normalised
        rests[renoise] = float(guess)
    assert rests[True] == pytest.approx(0.4, abs=1e-5)
    assert rests[False] == pytest.approx(0.4 * 1.0205, abs=1e-3)


@pytest.mark.parametrize("first", [2, 5, 20])
def test_a_target_that_outruns_the_shift_is_followed_with_the_lag_of_the_closed_form(first: int) -> None:
    """Each call's target lies `error` beyond what the shifted guess continues: lag = A / (1 - A) error."""
    sampler, std, error, target = rti(down_from(first)), 0.2, 0.05, 0.0
    rate, _ = gains(VP, std, sampler)
    guess = torch.zeros(1, 1, 1, dtype=torch.float64)
    for _ in range(300):
        target += error
        request = Request(SilentNoise(1), previous=guess, warm=torch.ones(1, dtype=torch.bool))
        guess = sampler(GaussianDenoiser(VP, target, std, (1, 1, 1)), request).normalised
    assert target - float(guess) == pytest.approx(rate / (1.0 - rate) * error, rel=1e-3)


def test_modes_are_kept_longer_the_lower_the_first_level() -> None:
    rows, calls, separation, std = 200, 20, 0.5, 0.15
    denoiser = TwoModes(VP, separation, std, (rows, 1, 1))
    shares = []
    for first in (2, 10, 20, 40, 99):
        sampler, guess, switched = rti(down_from(first)), torch.full((rows, 1, 1), separation), 0
        for call in range(calls):
            answer = sampler(denoiser, warm_request(guess, seed=call)).normalised
            switched += int((answer.sign() != guess.sign()).sum())
            guess = answer
        shares.append(switched / (rows * calls))
    assert shares == sorted(shares)
    assert shares[0] < 0.01
    assert shares[-1] == pytest.approx(0.5, abs=0.04)  # a fresh draw


@dataclass(frozen=True)
class TwoModes:
    """The perfect network for half N(-place, std^2), half N(place, std^2)."""

    path: NoisePath
    place: float
    std: float
    shape: tuple[int, int, int]
    cost: int = 1

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        variance = alpha**2 * self.std**2 + sigma**2
        right = torch.sigmoid(2.0 * alpha * self.place * x / variance)
        means = self.place * (2.0 * right - 1.0)
        clean = means + alpha * self.std**2 * (x - alpha * means) / variance
        return Prediction(x, clean, alpha, sigma, "clean")


def test_an_actor_continues_within_an_episode_and_begins_anew_after_a_reset_or_when_told_to_forget() -> None:
    policy = GaussianPolicy(rti(down_from(2)))
    actor = PolicyActor(policy, seed=0, batch_size=2, execution=1)
    period, costs = policy.spec.period_ns, []

    def ask(slot: int, tick: int) -> None:
        seen = {"seen": Sample(np.zeros(1), tick * period, tick)}
        chunk = actor.act({slot: Ask(slot, tick * period, [seen])})[slot]
        assert chunk is not None
        costs.append(chunk.info["evaluations"])

    actor.reset(0, seed=5)
    for tick in range(3):
        ask(0, tick)
    actor.reset(1, seed=6)
    ask(1, 3)
    ask(0, 3)
    actor.forget(0)
    ask(0, 4)
    ask(0, 30)  # long after the last chunk has ended
    actor.reset(1, seed=7)
    ask(1, 4)
    assert costs == [4, 3, 3, 4, 3, 4, 4, 4]


class GaussianPolicy:
    """Chunks of four actions from N(0.3, 0.2^2)."""

    spec = RobotSpec("r", {"seen": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
    horizon = Horizon(observation_steps=1, prediction=4, execution=1)

    def __init__(self, sampler: RealTimeIteration) -> None:
        self.sampler = sampler

    def encode(self, observation: Mapping[str, Tensor]) -> Encoded:
        return Encoded(observation["seen"])

    def sample(self, encoded: Encoded, request: Request) -> Sampled:
        return self.sampler(GaussianDenoiser(VP, 0.3, 0.2, (len(encoded), 4, 1)), request)

    def normalise(self, actions: Tensor) -> Tensor:
        return actions

    def unnormalise(self, actions: Tensor) -> Tensor:
        return actions


# --- discrete parts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LopsidedGripper:
    """The perfect network for an element that is `extreme` in 99 of 100 demonstrations, else -`extreme`."""

    path: NoisePath
    extreme: float
    shape: tuple[int, int, int]
    cost: int = 1

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        odds = math.log(99.0) + 2.0 * alpha * self.extreme * x / sigma**2
        return Prediction(x, self.extreme * (2.0 * torch.sigmoid(odds) - 1.0), alpha, sigma, "clean")


def calls_until_flip(sampler: RealTimeIteration, extreme: float) -> int:
    """Until most of 40 grippers that were open are closed, which they nearly always should be; 30: not at all."""
    bound, guess = sampler.for_actions(ROBOT), torch.zeros(40, 1, 4)
    guess[..., 3] = -extreme
    for call in range(1, 30):
        guess = bound(LopsidedGripper(VP, extreme, (40, 1, 4)), warm_request(guess, seed=call)).normalised
        if float((guess[..., 3] > 0.0).float().mean()) > 0.5:
            return call
    return 30


@pytest.mark.parametrize("first", [2, 5, 10])
def test_a_gripper_that_was_trained_small_flips_at_once_and_one_that_was_not_never(first: int) -> None:
    levels = down_from(first)
    assert calls_until_flip(rti(levels), 1.0) == 30
    assert calls_until_flip(rti(levels, discrete="clip", discrete_scale=1.0), 1.0) == 30
    assert calls_until_flip(rti(levels, discrete="scale"), 0.1) <= 2


def test_a_small_guess_needs_higher_levels_to_flip_a_gripper_of_full_size() -> None:
    calls = [calls_until_flip(rti(down_from(first), discrete="clip"), 1.0) for first in (2, 5, 10)]
    assert calls == sorted(calls, reverse=True)
    assert calls[0] > 5
    assert calls[-1] <= 2


@pytest.mark.parametrize(("discrete", "extreme"), [("clip", 1.0), ("scale", 0.25)])
def test_answers_have_their_discrete_parts_at_the_extremes_and_the_others_as_they_came(
    discrete: str, extreme: float
) -> None:
    plain = COLD(WildDenoiser(VP), Request(row_noise(3))).normalised
    sampler = rti([0.1], discrete=discrete, discrete_scale=4.0).for_actions(ROBOT)
    cold = sampler(WildDenoiser(VP), Request(row_noise(3))).normalised
    warm = sampler(WildDenoiser(VP), warm_request(torch.ones(3, 5, 4))).normalised
    assert torch.equal(cold[..., :3], plain[..., :3])
    assert torch.equal(cold[..., 3], extreme * plain[..., 3].sign())
    assert torch.equal(warm[..., 3].abs(), torch.full((3, 5), extreme))


def test_a_policy_trained_with_small_grippers_gives_back_physical_ones() -> None:
    spec = RobotSpec("r", {"seen": ArraySpec((1,))}, ROBOT, 10.0)
    data = torch.tensor([[-2.0, 0.0, 1.0, 0.0], [4.0, 1.0, 2.0, 1.0]])
    statistics = {"action": Statistics.of(data.numpy()), "observation/seen": Statistics.of(data.numpy()[:, :1])}
    normaliser = SpecNormaliser.fit(spec, statistics, discrete_scale=10.0).action
    torch.testing.assert_close(normaliser(data), torch.tensor([[-1.0, -1.0, -1.0, -0.1], [1.0, 1.0, 1.0, 0.1]]))
    torch.testing.assert_close(normaliser.inverse(normaliser(data)), data)
    with pytest.raises(ConfigError, match="discrete_scale=0, expected a positive number"):
        SpecNormaliser.fit(spec, statistics, discrete_scale=0)
