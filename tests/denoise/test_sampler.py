"""Samplers against diffusers' schedulers and textbook loops, and what every sampler promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Prediction, Target
from robopolicy.denoise.sampler import Denoiser, HeunSampler, Request, TableSampler, make_sampler
from robopolicy.denoise.tables import ddim, ddpm, dpmpp
from robopolicy.errors import ConfigError

SHAPE = (3, 4, 2)


SAMPLERS = ["ddpm", "ddim", "euler", "dpmpp", "heun"]
PATHS: list[NoisePath] = [VariancePreserving(100), LinearPath(), ExplodingPath()]


@dataclass(frozen=True)
class WildDenoiser:
    """A fixed nonlinear network whose clean actions leave [-1, 1]."""

    path: NoisePath
    shape: tuple[int, int, int] = SHAPE
    target: Target = "eps"
    cost: int = 1

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        return Prediction(x, torch.sin(3 * x) + 0.5 * x, alpha, sigma, self.target)


def _noise(rows: int = SHAPE[0]) -> RowNoise:
    return RowNoise(11, [(row, 0) for row in range(rows)])


@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddpm_is_diffusers_ddpm(clip: float | None) -> None:
    path = VariancePreserving(100)
    denoiser = WildDenoiser(path)
    scheduler = DDPMScheduler(
        100, beta_schedule="squaredcos_cap_v2", variance_type="fixed_small", clip_sample=clip is not None
    )
    noise = _noise().normal(101, SHAPE[1:]).double()
    x = float(path.sigma(torch.tensor(1.0, dtype=torch.float64))) * noise[0]
    for index, k in enumerate(range(99, -1, -1)):
        eps = denoiser(x, torch.tensor((k + 1) / 100)).eps
        without_noise = scheduler.step(eps, k, x, generator=torch.Generator().manual_seed(0)).prev_sample
        drawn = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        deviation = scheduler._get_variance(k).sqrt() if k else 0.0
        x = without_noise + deviation * (noise[index + 1] - drawn) if k else without_noise
    sampled = TableSampler(ddpm, 100, clip)(denoiser, Request(_noise()))
    torch.testing.assert_close(sampled.normalised.double(), x, atol=2e-4, rtol=1e-3)
    assert sampled.evaluations.tolist() == [100] * SHAPE[0]


@pytest.mark.parametrize("steps", [5, 10, 50])
def test_ddim_is_diffusers_ddim(steps: int) -> None:
    path = VariancePreserving(100)
    denoiser = WildDenoiser(path)
    scheduler = DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", clip_sample=True, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    x = float(path.sigma(torch.tensor(1.0))) * _noise().normal(steps + 1, SHAPE[1:])[0]
    for k in scheduler.timesteps.tolist():
        eps = denoiser(x, torch.tensor((k + 1) / 100)).eps
        x = scheduler.step(eps, k, x, use_clipped_model_output=True).prev_sample
    sampled = TableSampler(ddim, steps)(denoiser, Request(_noise()))
    torch.testing.assert_close(sampled.normalised, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [2, 5, 10, 50])
def test_dpmpp_is_diffusers_dpm_solver(steps: int) -> None:
    path = VariancePreserving(100)
    denoiser = WildDenoiser(path)
    scheduler = DPMSolverMultistepScheduler(
        100,
        beta_schedule="squaredcos_cap_v2",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    x = float(path.sigma(torch.tensor(1.0))) * _noise().normal(steps + 1, SHAPE[1:])[0]
    for k in scheduler.timesteps.tolist():
        x = scheduler.step(denoiser(x, torch.tensor((k + 1) / 100)).eps, k, x).prev_sample
    sampled = TableSampler(dpmpp, steps, clip=None)(denoiser, Request(_noise())).normalised
    torch.testing.assert_close(sampled, x, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 4, 18])
def test_heun_on_the_exploding_path_is_edms_algorithm(steps: int) -> None:
    """Karras et al., algorithm 1."""
    path = ExplodingPath(0.01, 5.0, "karras")
    denoiser = WildDenoiser(path, target="preconditioned")
    levels = path.levels(steps)
    sigmas = [*(5.0 * levels.double()).tolist(), 0.0]
    x = sigmas[0] * _noise().normal(1, SHAPE[1:])[0].double()
    for i in range(steps):
        slope = (x - denoiser(x, levels[i]).clean) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * slope
        if i + 1 < steps:
            other = (ahead - denoiser(ahead, levels[i + 1]).clean) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * (slope + other) / 2
        x = ahead
    sampled = HeunSampler(steps, clip=None)(denoiser, Request(_noise()))
    torch.testing.assert_close(sampled.normalised.double(), x, atol=1e-4, rtol=1e-4)
    assert sampled.evaluations.tolist() == [2 * steps - 1] * SHAPE[0]


Mixing = Callable[[list[Prediction], list[float]], Prediction]


def _sum(values: list[Tensor], weights: list[float]) -> Tensor:
    return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(dim=0)


def _mixed(read: Callable[[Prediction], Tensor], target: Target) -> Mixing:
    def mix(found: list[Prediction], weights: list[float]) -> Prediction:
        first = found[0]
        output = _sum([read(prediction) for prediction in found], weights)
        output = -first.sigma * output if read is _score else output
        return Prediction(first.x, output, first.alpha, first.sigma, target)

    return mix


def _score(prediction: Prediction) -> Tensor:
    return prediction.score


MIXINGS: dict[str, Mixing] = {
    "eps": _mixed(lambda prediction: prediction.eps, "eps"),
    "clean": _mixed(lambda prediction: prediction.clean, "clean"),
    "v": _mixed(lambda prediction: prediction.v, "v"),
    "velocity": _mixed(lambda prediction: prediction.flow_velocity, "velocity"),
    "score": _mixed(_score, "eps"),
}


@dataclass(frozen=True)
class MixedDenoiser:
    """Two networks of different targets, mixed in one of their readings, in double precision."""

    path: NoisePath
    mixing: Mixing
    weights: tuple[float, float] = (0.3, 0.7)
    shape: tuple[int, int, int] = SHAPE
    cost: int = 2

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        x, t = x.double(), t.double()
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        first = Prediction(x, torch.sin(3 * x), alpha, sigma, "clean")
        second = Prediction(x, torch.tanh(x - 0.4), alpha, sigma, "v")
        return self.mixing([first, second], list(self.weights))


_LINEAR_LEVELS = (0.98 * LinearPath().levels(10)).tolist()
"""A little less than the path's own: where alpha is 0, eps and score say nothing of the action."""


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("path", "levels", "readings"),
    [
        (VariancePreserving(100), None, list(MIXINGS)),
        (ExplodingPath(), None, list(MIXINGS)),
        (LinearPath(), _LINEAR_LEVELS, list(MIXINGS)),
        (LinearPath(), None, ["v", "clean", "velocity"]),
    ],
    ids=["diffusion", "edm", "flow", "flow from pure noise"],
)
def test_mixing_any_reading_of_two_networks_is_the_same_policy(
    path: NoisePath, levels: list[float] | None, readings: list[str], sampler: str
) -> None:
    """The conversions of composition (arXiv 2510.01068, appendix G): each reading is affine in each other."""
    run = make_sampler(sampler, 10, clip=None)
    found = {name: run(MixedDenoiser(path, MIXINGS[name]), Request(_noise(), levels)) for name in readings}
    for name, sampled in found.items():
        torch.testing.assert_close(sampled.normalised, found["v"].normalised, atol=1e-6, rtol=0, msg=name)
        assert sampled.evaluations.tolist() == [2 * (19 if sampler == "heun" else 10)] * SHAPE[0]


def test_mixing_depends_on_the_reading_when_the_weights_do_not_sum_to_one() -> None:
    run, path = make_sampler("ddim", 10, clip=None), VariancePreserving(100)
    mixed = [MixedDenoiser(path, MIXINGS[name], (0.5, 0.7)) for name in ("eps", "clean", "v")]
    eps, clean, v = (run(denoiser, Request(_noise())).normalised for denoiser in mixed)
    assert min(float((first - second).abs().max()) for first, second in [(eps, clean), (clean, v), (v, eps)]) > 1e-2


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", PATHS, ids=["diffusion", "flow", "edm"])
def test_rows_are_independent_of_the_batch(path: NoisePath, sampler: str) -> None:
    run = make_sampler(sampler, 20)
    together = run(WildDenoiser(path, target="v"), Request(_noise())).normalised
    alone = run(WildDenoiser(path, (1, 4, 2), "v"), Request(RowNoise(11, [(1, 0)]))).normalised
    assert torch.equal(together[1:2], alone)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_cost_of_a_call_counts(sampler: str) -> None:
    calls = 0

    class Counting(WildDenoiser):
        def __call__(self, x: Tensor, t: Tensor) -> Prediction:
            nonlocal calls
            calls += 1
            return super().__call__(x, t)

    denoiser: Denoiser = Counting(LinearPath(), target="velocity", cost=3)
    evaluations = make_sampler(sampler, 6)(denoiser, Request(_noise())).evaluations
    assert evaluations.tolist() == [3 * calls] * SHAPE[0]
    assert calls == (11 if sampler == "heun" else 6)


def test_explicit_levels_replace_the_samplers_own() -> None:
    path = VariancePreserving(100)
    request = Request(_noise(), levels=[0.5, 0.2, 0.01])
    assert TableSampler(ddim, 50)(WildDenoiser(path), request).evaluations.tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match="must descend"):
        TableSampler(ddim, 50)(WildDenoiser(path), Request(_noise(), levels=[0.2, 0.5]))
    for levels in ([1.2, 0.5], [0.5, 0.0]):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
            HeunSampler(50)(WildDenoiser(path), Request(_noise(), levels=levels))


@pytest.mark.parametrize("path", PATHS, ids=["diffusion", "flow", "edm"])
def test_a_level_that_is_a_whole_number_is_one(path: NoisePath) -> None:
    whole, decimal = (
        make_sampler("ddim", 50)(WildDenoiser(path, target="v"), Request(_noise(), levels)).normalised
        for levels in ([1], [1.0])
    )
    assert torch.equal(whole, decimal)
    assert whole.dtype == torch.float32


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", PATHS, ids=["diffusion", "flow", "edm"])
def test_clipped_samples_end_inside_the_bounds(path: NoisePath, sampler: str) -> None:
    """The last step returns the clipped clean action."""
    sampled = make_sampler(sampler, 30, clip=0.5)(WildDenoiser(path, target="v"), Request(_noise())).normalised
    assert float(sampled.abs().max()) <= 0.5 + 1e-6


def test_samplers_say_what_they_are() -> None:
    assert str(make_sampler("dpmpp", 10)) == "dpmpp, 10 steps, clip 1"
    assert str(make_sampler("heun", 5, clip=None)) == "heun, 5 steps, no clipping"


def test_an_unknown_sampler_is_named() -> None:
    with pytest.raises(ConfigError, match="'unipc'.*ddpm, ddim, euler, dpmpp, heun"):
        make_sampler("unipc", 10)
