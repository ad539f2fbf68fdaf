"""Every policy through the one interface, and what each of them must learn on a problem with a known answer."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from robopolicy.denoise.noise import RowNoise, StepNoise
from robopolicy.denoise.paths import VariancePreserving
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.nets.mlp import RegressionMlp, ResidualMlp
from robopolicy.policies.cloning import GaussianCloning, MeanSquaredCloning
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import Encoded, Horizon, LearnedPolicy
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
HORIZON = Horizon(2, 4, 2)
_HEAD = partial(RegressionMlp, width=32, blocks=1)


def _diffusion(target: str = "eps") -> GenerativePolicy:
    net = partial(ResidualMlp, width=64, blocks=2, level_size=32)
    path = VariancePreserving(50)
    return GenerativePolicy(SPEC, HORIZON, net, path, make_sampler("ddpm", 50), target)  # type: ignore[arg-type]


def _policies() -> list[LearnedPolicy]:
    torch.manual_seed(0)
    return [
        _diffusion(),
        _diffusion("clean"),
        MeanSquaredCloning(SPEC, HORIZON, _HEAD),
        GaussianCloning(SPEC, HORIZON, _HEAD),
    ]


def _batch(rows: int) -> tuple[dict[str, Tensor], Tensor]:
    """State s in [-1, 1]; the chunk is constantly +0.5 or -0.5, whatever the state: two modes, mean zero."""
    generator = torch.Generator().manual_seed(rows)
    state = torch.rand(rows, 2, 1, generator=generator) * 2 - 1
    side = torch.randint(0, 2, (rows, 1, 1), generator=generator).float() - 0.5
    return {"state": state}, side.expand(rows, 4, 1).clone()


def _train(policy: LearnedPolicy, steps: int) -> LearnedPolicy:
    optimiser = torch.optim.Adam(policy.parameters(), lr=2e-3)
    for step in range(steps):
        loss = policy.loss(*_batch(256 + step % 7), StepNoise((step,), 256 + step % 7)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return policy.eval()


@torch.no_grad()
def _sample(policy: LearnedPolicy, rows: int) -> Tensor:
    observation, _ = _batch(rows)
    noise = RowNoise(0, [(row, 0) for row in range(rows)])
    return policy.unnormalise(policy.sample(policy.encode(observation), Request(noise)).normalised)


@pytest.mark.parametrize("index", range(4))
def test_loss_has_a_row_each_and_samples_have_the_chunks_shape(index: int) -> None:
    policy = _policies()[index]
    assert policy.loss(*_batch(5), StepNoise((0,), 5)).shape == (5,)
    assert _sample(policy, 3).shape == (3, 4, 1)


@pytest.mark.parametrize("index", range(4))
def test_a_sample_does_not_depend_on_its_batch_mates(index: int) -> None:
    policy = _policies()[index].eval()
    observation, _ = _batch(6)
    whole = policy.sample(policy.encode(observation), Request(RowNoise(1, [(row, 0) for row in range(6)]))).normalised
    part = {"state": observation["state"][2:4]}
    alone = policy.sample(policy.encode(part), Request(RowNoise(1, [(2, 0), (3, 0)]))).normalised
    torch.testing.assert_close(whole[2:4], alone, atol=1e-5, rtol=1e-5)


def test_diffusion_reaches_both_modes_and_nothing_between() -> None:
    torch.manual_seed(0)
    chunks = _sample(_train(_diffusion(), 500), 200).mean(dim=(1, 2))
    assert float((chunks.abs() - 0.5).abs().lt(0.15).float().mean()) > 0.9
    assert 0.3 < float((chunks > 0).float().mean()) < 0.7


def test_mean_squared_cloning_learns_the_mean_between_the_modes() -> None:
    torch.manual_seed(0)
    assert float(_sample(_train(MeanSquaredCloning(SPEC, HORIZON, _HEAD), 300), 50).abs().max()) < 0.2


def test_gaussian_cloning_learns_mean_and_deviation() -> None:
    torch.manual_seed(0)
    chunks = _sample(_train(GaussianCloning(SPEC, HORIZON, _HEAD), 300), 500)
    assert abs(float(chunks.mean())) < 0.1
    assert float(chunks.std()) == pytest.approx(0.5, abs=0.07)


def test_encoding_happens_once_however_often_the_network_is_asked() -> None:
    policy, calls = _diffusion(), 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    policy.encoder.register_forward_hook(count)
    assert policy.sampler(
        policy.denoiser(policy.encode(_batch(2)[0])), Request(RowNoise(0, [(0, 0), (1, 0)]))
    ).evaluations.tolist() == [50, 50]
    assert calls == 1


def test_encoded_rows_repeat_for_candidates() -> None:
    encoded = Encoded(torch.arange(6.0).view(3, 1, 2))
    assert encoded.repeat(2).condition[:, 0, 0].tolist() == [0, 0, 2, 2, 4, 4]
    assert encoded.rows(torch.tensor([2, 0])).condition[:, 0, 0].tolist() == [4, 0]


@pytest.mark.parametrize(("values", "words"), [((0, 4, 2), "empty part"), ((1, 4, 5), "exceeds")])
def test_an_impossible_horizon_is_refused(values: tuple[int, int, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Horizon(*values)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy.target is 'epsilon', expected one of eps, clean"):
        _diffusion("epsilon")


def test_a_sampler_with_more_steps_than_levels_is_refused() -> None:
    policy = _diffusion()
    with pytest.raises(ConfigError, match="sampler.steps is 51, expected 1 to 50"):
        policy.sampler = make_sampler("ddim", 51)
    policy.sampler = make_sampler("ddim", 50)
