"""Real-time iteration on targets that are known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_policies import small_policy
from torch import Tensor
from warm_starts import (
    COLD,
    ROBOT,
    VP,
    WildDenoiser,
    down_from,
    gains,
    levels_of,
    row_noise,
    rti,
    warm_request,
)

from robopolicy.benchmarks.samplers import GaussianDenoiser
from robopolicy.configuration import build, load
from robopolicy.denoise.descent import Descent
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath
from robopolicy.denoise.sampler import Request, Sampled, TableSampler
from robopolicy.denoise.tables import ddpm
from robopolicy.errors import ConfigError
from robopolicy.inference.warm_start import RealTimeIteration
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import HasSampler
from robopolicy.spec import ArraySpec, RobotSpec

PATHS: dict[str, tuple[NoisePath, list[float]]] = {
    "diffusion": (VP, [0.2, 0.1, 0.03]),
    "flow": (LinearPath(), [0.4, 0.1]),
    "edm": (ExplodingPath(), [0.005, 0.001]),
}


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        (0.05, {2: 0.427, 3: 0.315, 5: 0.184, 10: 0.069, 20: 0.021, 40: 0.005}),
        (0.2, {2: 0.924, 3: 0.882, 5: 0.786, 10: 0.547, 20: 0.258, 40: 0.081}),
        (0.5, {2: 0.988, 3: 0.981, 5: 0.963, 10: 0.894, 20: 0.708, 40: 0.378}),
    ],
)
def test_the_unnoised_guess_enters_with_the_gains_of_the_specification(std: float, expected: dict[int, float]) -> None:
    for first, gain in expected.items():
        for spacing in ("paper", "consistent"):
            found, _ = gains(VP, std, rti(down_from(first), renoise=False, spacing=spacing))
            assert found == pytest.approx(gain, abs=5.1e-4)


@pytest.mark.parametrize(
    ("std", "expected"), [(0.05, {2: 0.47, 5: 0.66, 20: 0.77, 99: 0.78}), (0.2, {2: 0.17, 5: 0.36, 20: 0.79, 99: 0.93})]
)
def test_unnoised_guesses_narrow_the_answer_as_specified(std: float, expected: dict[int, float]) -> None:
    for first, share in expected.items():
        assert gains(VP, std, rti(down_from(first), renoise=False))[1] / std == pytest.approx(share, abs=5.1e-3)


@pytest.mark.parametrize(
    ("std", "indices", "paper", "consistent"),
    [
        (0.05, [5, 3, 1, 0], 0.336, 0.184),
        (0.2, [25, 22, 20, 18, 16, 14, 12, 10, 8, 5, 3, 2, 1, 0], 0.431, 0.185),
    ],
)
def test_skipping_levels_through_a_one_step_scheduler_keeps_more_of_the_guess(
    std: float, indices: list[int], paper: float, consistent: float
) -> None:
    levels = levels_of(indices)
    assert gains(VP, std, rti(levels, renoise=False, spacing="paper"))[0] == pytest.approx(paper, abs=6e-4)
    assert gains(VP, std, rti(levels, renoise=False))[0] == pytest.approx(consistent, abs=6e-4)


@pytest.mark.parametrize("renoise", [True, False])
@pytest.mark.parametrize("std", [0.05, 0.5])
@pytest.mark.parametrize("name", PATHS)
def test_ancestral_steps_keep_the_posterior_mean_whatever_lies_between(name: str, std: float, renoise: bool) -> None:
    path, levels = PATHS[name]
    first = torch.tensor(levels[0], dtype=torch.float32).double()
    alpha, sigma = float(path.alpha(first)), float(path.sigma(first))
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    for listed in (levels, levels[:1]):
        found, _ = gains(path, std, rti(listed, renoise=renoise))
        assert found == pytest.approx(gain * (alpha if renoise else 1.0), rel=1e-5)


@pytest.mark.parametrize("name", PATHS)
def test_many_straight_steps_scale_the_guess_by_the_ratio_of_standard_deviations(name: str) -> None:
    path, std, first = PATHS[name][0], 0.3, PATHS[name][1][0]
    levels = [index / 100 for index in range(round(first * 100), 0, -1)]
    if name != "diffusion":
        levels = [first * index / 400 for index in range(400, 0, -1)]
    start = torch.tensor(levels[0], dtype=torch.float32).double()
    wide = math.hypot(float(path.alpha(start)) * std, float(path.sigma(start)))
    for step in ("ddim", "euler"):
        assert gains(path, std, rti(levels, step=step, renoise=False))[0] == pytest.approx(std / wide, rel=0.03)


def test_drawn_answers_have_the_exact_moments() -> None:
    rows, std, guess = 20_000, 0.2, 0.7
    sampler = rti(down_from(5))
    gain, spread = gains(VP, std, sampler)
    sampled = sampler(GaussianDenoiser(VP, 0.0, std, (rows, 1, 1)), warm_request(torch.full((rows, 1, 1), guess)))
    answers = sampled.normalised.flatten()
    assert float(answers.mean()) == pytest.approx(gain * guess, abs=4 * spread / math.sqrt(rows))
    assert float(answers.std()) == pytest.approx(spread, rel=4 / math.sqrt(2 * rows))


# --- against the plain sampler ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["consistent", "paper"])
def test_all_levels_from_noise_are_plain_ddpm_bit_for_bit(spacing: str) -> None:
    branch = row_noise(3).branch(1)
    plain = TableSampler(ddpm, 100)(WildDenoiser(VP), Request(branch)).normalised
    start = float(VP.sigma(torch.tensor(1.0))) * row_noise(3).branch(1).normal(101, (5, 4))[0]
    unnoised = rti(down_from(99), renoise=False, spacing=spacing, clip=1.0)
    assert torch.equal(unnoised(WildDenoiser(VP), warm_request(start)).normalised, plain)
    renoised = rti(down_from(99), spacing=spacing, clip=1.0)
    assert torch.equal(renoised(WildDenoiser(VP), warm_request(torch.zeros(3, 5, 4))).normalised, plain)


@pytest.mark.parametrize("name", PATHS)
def test_rows_without_a_guess_get_the_cold_answer_bit_for_bit(name: str) -> None:
    path, levels = PATHS[name]
    plain = COLD(WildDenoiser(path), Request(row_noise(3)))
    previous, none = torch.ones(3, 5, 4), torch.zeros(3, dtype=torch.bool)
    for request in (Request(row_noise(3)), Request(row_noise(3), previous=previous, warm=none)):
        sampled = rti(levels)(WildDenoiser(path), request)
        assert torch.equal(sampled.normalised, plain.normalised)
        assert torch.equal(sampled.evaluations, plain.evaluations)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("discrete", ["none", "clip", "scale"])
def test_a_row_depends_on_neither_its_neighbours_nor_their_kind(name: str, discrete: str) -> None:
    path, levels = PATHS[name]
    sampler, previous = rti(levels, discrete=discrete).for_actions(ROBOT), torch.randn(3, 5, 4).clamp(-1, 1)
    mixed = torch.tensor([True, False, True])

    def asked(warm: Tensor, previous: Tensor) -> Sampled:
        return sampler(WildDenoiser(path), Request(row_noise(3), previous=previous, warm=warm))

    both = asked(mixed, previous)
    warm, cold = asked(torch.ones(3).bool(), previous), asked(torch.zeros(3).bool(), previous)
    assert torch.equal(both.normalised, torch.where(mixed[:, None, None], warm.normalised, cold.normalised))
    assert both.evaluations.tolist() == [2 * len(levels), 2 * 4, 2 * len(levels)]
    others = previous.clone()
    others[1:] = 0.5
    assert torch.equal(asked(mixed, others).normalised[0], both.normalised[0])


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"levels": [0.1, 0.2]}, "sampler.levels: sampling levels must descend"),
        ({"levels": []}, "sampler.levels: sampling levels must descend"),
        ({"step": "heun"}, "sampler.step is 'heun', expected one of ddpm, ddim, euler"),
        ({"spacing": "even"}, "sampler.spacing is 'even', expected one of consistent, paper"),
        ({"discrete": "flip"}, "sampler.discrete is 'flip', expected one of none, clip, scale"),
        ({"discrete_scale": 0.0}, "sampler.discrete_scale is 0.0"),
        ({"cold": Descent()}, "sampler.cold is 'descent"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        rti(**{"levels": [0.1], **options})


def test_a_path_that_lacks_the_levels_is_an_error_in_the_first_call() -> None:
    request = Request(row_noise(3))
    with pytest.raises(ConfigError, match="a LinearPath has none: use sampler.spacing=consistent"):
        rti([0.3, 0.1], spacing="paper")(WildDenoiser(LinearPath()), request)
    with pytest.raises(ConfigError, match="not levels of this policy's noise path"):
        rti([0.03, 0.004])(WildDenoiser(VP), request)


@pytest.mark.parametrize(
    ("preset", "policy"),
    [("rti", "diffusion"), ("rti_paper", "diffusion"), ("rti_flow", "flow"), ("rti_edm", "edm"), ("rti_ebt", "ebt")],
)
def test_presets_fit_their_policies_and_answer_warm_rows(preset: str, policy: str) -> None:
    spec = RobotSpec("r", {"seen": ArraySpec((2,))}, ROBOT, 10.0)
    config = {
        "policy": small_policy(policy),
        "horizon": {"observation_steps": 2, "prediction": 8, "execution": 4},
    }
    made = make_policy(config, spec).eval()
    assert isinstance(made, HasSampler)
    made.sampler = build(load("eval", ["run=none", f"sampler={preset}"]).sampler)
    assert str(made.sampler).startswith("rti")
    encoded = made.encode({"seen": torch.zeros(2, 2, 2)})
    sampled = made.sample(encoded, warm_request(torch.zeros(2, 8, 4)))
    assert bool(sampled.normalised.isfinite().all())
    assert max(sampled.evaluations.tolist()) <= 7


def test_one_level_must_be_a_list_too() -> None:
    with pytest.raises(ConfigError, match=r"sampler.levels=0.1 is no list, expected one such as \[0.1,0.03\]"):
        RealTimeIteration(COLD, 0.1)  # type: ignore[arg-type]
