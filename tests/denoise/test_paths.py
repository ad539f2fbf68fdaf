from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.errors import ConfigError

PATHS: list[NoisePath] = [VariancePreserving(100), LinearPath(), ExplodingPath(), ExplodingPath(0.02, 5.0, "karras")]
_UNIFORM = (torch.arange(100_000) + 0.5) / 100_000


@pytest.mark.parametrize("steps", [10, 100])
def test_alpha_and_sigma_are_those_of_diffusers(steps: int) -> None:
    path, scheduler = VariancePreserving(steps), DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2")
    t = (torch.arange(steps) + 1) / steps
    torch.testing.assert_close(path.alpha(t), scheduler.alphas_cumprod.sqrt())
    torch.testing.assert_close(path.sigma(t), (1 - scheduler.alphas_cumprod).sqrt())


def test_every_device_has_its_own_table() -> None:
    path, times = VariancePreserving(100), torch.linspace(0, 1, 101)
    before = path.alpha(times)
    assert path.alpha(times.to("meta")).device.type == "meta"
    assert torch.equal(path.alpha(times), before)


def test_time_zero_is_clean_and_variance_is_preserved() -> None:
    path = VariancePreserving(100)
    t = torch.linspace(0, 1, 101)
    assert path.alpha(t)[0] == 1
    assert path.sigma(t)[0] == 0
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones(101))


def test_levels_descend_from_noise_and_a_full_list_has_every_level() -> None:
    path = VariancePreserving(100)
    assert path.levels(100).mul(100).round().int().tolist() == list(range(100, 0, -1))
    assert path.levels(10).mul(100).round().int().tolist() == list(range(100, 0, -10))
    assert path.levels(1).tolist() == [1.0]
    for count in (3, 7, 16, 33):
        levels = path.levels(count)
        assert len(levels) == count
        assert bool((levels.diff() < 0).all())


def test_levels_refuse_more_steps_than_the_path_has() -> None:
    with pytest.raises(ConfigError, match="sampler.steps is 101, expected 1 to 100"):
        VariancePreserving(100).levels(101)


def test_training_times_cover_every_level_evenly() -> None:
    path = VariancePreserving(10)
    times = path.training_times((torch.arange(1000) + 0.5) / 1000)
    values, counts = times.unique(return_counts=True)
    torch.testing.assert_close(values, path.levels(10).flip(0))
    assert counts.tolist() == [100] * 10
    torch.testing.assert_close(path.embed(values), torch.arange(10.0))


@pytest.mark.parametrize("path", PATHS)
def test_noise_grows_along_every_path_from_clean_actions(path: NoisePath) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    assert (float(alpha[0]), float(sigma[0])) == (1.0, 0.0)
    assert bool(((sigma[1:] / alpha[1:].clamp(min=1e-12)).diff() > 0).all())
    assert alpha.dtype == sigma.dtype == path.scale(t).dtype == torch.float64


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_a_straight_line_after_division_by_its_scale(path: NoisePath) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    clock, share = path.sigma(t) / path.scale(t), path.alpha(t) / path.scale(t)
    slopes = share.diff() / clock.diff()
    torch.testing.assert_close(slopes, slopes[:1].expand(100), atol=1e-9, rtol=1e-9)
    assert bool((path.scale(t) > 0).all())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_levels_descend_from_one_on_every_path(path: NoisePath, count: int) -> None:
    levels = path.levels(count)
    assert len(levels) == count
    assert float(levels[0]) == 1.0
    assert float(levels[-1]) > 0.0
    assert bool((levels.diff() < 0).all())


@pytest.mark.parametrize("path", [LinearPath(), ExplodingPath()])
def test_a_sampler_needs_a_step(path: NoisePath) -> None:
    with pytest.raises(ConfigError, match="sampler.steps is 0, expected at least 1"):
        path.levels(0)


def test_linear_levels_times_and_embedding() -> None:
    path = LinearPath()
    assert path.levels(4).tolist() == [1.0, 0.75, 0.5, 0.25]
    times = path.training_times(_UNIFORM)
    np.testing.assert_allclose(np.quantile(times, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=1e-4)
    assert float(path.training_times(torch.zeros(1))) == 1.0
    assert float(path.embed(torch.tensor(0.25))) == 250.0


def test_logit_normal_times_have_a_normal_logit() -> None:
    times = LinearPath("logit_normal", mean=-0.5, std=0.8).training_times(_UNIFORM.double())
    logit = times.logit()
    assert float(logit.mean()) == pytest.approx(-0.5, abs=1e-3)
    assert float(logit.std()) == pytest.approx(0.8, abs=1e-3)
    share_below_one = float((logit < 0.3).double().mean())
    assert share_below_one == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=1e-3)
    extremes = LinearPath("logit_normal").training_times(torch.tensor([0.0, 1 - 2**-24]))
    assert bool(((extremes >= 0) & (extremes <= 1)).all())


def test_exponential_levels_have_a_constant_ratio() -> None:
    path = ExplodingPath(0.005, 80.0)
    sigma = path.sigma(path.levels(10).double())
    torch.testing.assert_close(
        sigma[1:] / sigma[:-1], torch.full((9,), (0.005 / 80) ** (1 / 9)).double(), rtol=1e-6, atol=0
    )
    assert float(sigma[-1]) == pytest.approx(0.005)


def test_karras_levels_are_those_of_edm() -> None:
    """Karras et al., equation 5."""
    path, rho = ExplodingPath(0.002, 80.0, "karras"), 7
    i = np.arange(18)
    expected = (80 ** (1 / rho) + i / 17 * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    np.testing.assert_allclose(path.sigma(path.levels(18).double()), expected, rtol=1e-6)


def test_exploding_training_levels_are_log_logistic_within_bounds() -> None:
    path = ExplodingPath(0.05, 10.0, median=0.4, spread=0.7)
    sigma = path.sigma(path.training_times(_UNIFORM.double())).numpy()
    assert 0.05 <= sigma.min() < 0.0501
    assert 9.9 < sigma.max() <= 10.0

    def cumulative(value: float) -> float:
        return 1 / (1 + (value / 0.4) ** (-1 / 0.7))

    for value in (0.1, 0.4, 2.0):
        expected = (cumulative(value) - cumulative(0.05)) / (cumulative(10.0) - cumulative(0.05))
        assert float((sigma < value).mean()) == pytest.approx(expected, abs=1e-4)
    assert float(path.training_times(torch.zeros(1))) * 10.0 == pytest.approx(0.05)


def test_the_network_is_told_the_logarithm_of_sigma() -> None:
    path = ExplodingPath(0.005, 80.0)
    assert float(path.embed(torch.tensor(1.0))) == pytest.approx(250 * math.log(80.0))


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        (LinearPath, {"time": "cosine"}, "policy.path.time is 'cosine', expected one of uniform, logit_normal"),
        (LinearPath, {"std": 0.0}, "policy.path.std is 0.0, expected a positive number"),
        (ExplodingPath, {"spacing": "linear"}, "spacing is 'linear', expected one of exponential, karras"),
        (
            ExplodingPath,
            {"minimum": 2.0, "maximum": 1.0},
            "maximum is 1.0, expected more than policy.path.minimum, 2.0",
        ),
        (ExplodingPath, {"minimum": 0.0}, "policy.path.minimum is 0.0"),
        (ExplodingPath, {"median": -1.0}, "policy.path.median is -1.0"),
    ],
)
def test_impossible_options_are_refused(path: type, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        path(**options)
