"""Composed policies: bit-exact ends, what their parents must share, different views of one task, and saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_policies import small_policy
from torch import Tensor

from robopolicy.denoise.descent import Descent, DescentRule
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.paths import ExplodingPath, LinearPath, NoisePath, VariancePreserving
from robopolicy.denoise.prediction import Target
from robopolicy.denoise.sampler import Request, Sampled, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference.compose import ComposedEnergyPolicy, ComposedPolicy, compose, gradient_size
from robopolicy.inference.mixture import ComposedLandscape, step_size_of
from robopolicy.inference.recipe import composed_config
from robopolicy.inference.superposition import Superposition
from robopolicy.nets.mlp import ResidualMlp
from robopolicy.policies.energy import EnergyPolicy
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import HasSampler, Horizon, PolicyModule
from robopolicy.spec import ArraySpec, Part, RobotSpec
from robopolicy.training import checkpoint

STREAMS = {"state": ArraySpec((3,)), "object": ArraySpec((2,)), "image": ArraySpec((32, 32, 3), "uint8")}
ACTION = ArraySpec((3,), parts=(Part("position", 2, "position"), Part("gripper", 1, "gripper", discrete=True)))
SPEC = RobotSpec("toy", STREAMS, ACTION, 10.0)
PATHS: dict[str, NoisePath] = {"diffusion": VariancePreserving(50), "flow": LinearPath(), "edm": ExplodingPath()}
TARGETS: dict[str, Target] = {"diffusion": "eps", "flow": "velocity", "edm": "preconditioned"}
ROWS = 5
STRAIGHT = DescentRule(momentum=0.0, exponential=False)


def _policy(
    kind: str = "diffusion",
    seed: int = 0,
    streams: Sequence[str] = ("state",),
    horizon: Horizon | None = None,
    target: Target | None = None,
    width: int = 16,
) -> GenerativePolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = partial(ResidualMlp, width=width, blocks=1, level_size=16)
        return GenerativePolicy(
            SPEC.select(list(streams)),
            horizon or Horizon(2, 4, 2),
            net,
            PATHS[kind],
            make_sampler("ddim" if kind != "flow" else "euler", 5),
            target or TARGETS[kind],
        ).eval()


def _energies(seed: int) -> EnergyPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = {"policy": small_policy("ebt"), "horizon": vars(Horizon(2, 4, 2))}
        policy = make_policy(config, SPEC.select(["state"]))
    assert isinstance(policy, EnergyPolicy)
    return policy.eval()


def _observation(steps: int = 2, rows: int = ROWS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "state": torch.randn(rows, steps, 3, generator=generator),
        "object": torch.randn(rows, steps, 2, generator=generator),
    }


def _sampled(policy: PolicyModule, steps: int | None = None) -> Sampled:
    noise = RowNoise(0, [(row, 0) for row in range(ROWS)])
    observation = _observation(4)
    wanted = policy.horizon.observation_steps if steps is None else steps
    seen = {name: observation[name][:, -wanted:] for name in policy.spec.observations}
    return policy.sample(policy.encode(seen), Request(noise))


@pytest.mark.parametrize("kinds", [("diffusion", "flow"), ("flow", "edm"), ("edm", "diffusion"), ("flow", "flow")])
def test_all_the_weight_on_one_parent_is_that_parent_bit_for_bit(kinds: tuple[str, str]) -> None:
    parents = [
        _policy(kinds[0], 0, ("state",), Horizon(1, 4, 3)),
        _policy(kinds[1], 1, ("object",), Horizon(2, 6, 2)),
    ]
    for weights, parent in (((1.0, 0.0), parents[0]), ((0.0, 1.0), parents[1])):
        composed = ComposedPolicy(parents, weights)
        found, alone = _sampled(composed), _sampled(parent)
        assert torch.equal(found.normalised, alone.normalised)
        assert torch.equal(found.evaluations, alone.evaluations)
        assert composed.horizon == parent.horizon
        assert composed.spec.observations == parent.spec.observations


@pytest.mark.parametrize("kind", list(PATHS))
def test_a_policy_with_itself_does_not_feel_the_weights(kind: str) -> None:
    parent = _policy(kind)
    alone = _sampled(parent).normalised
    for weights in ((0.5, 0.5), (0.1, 0.9), (1.3, -0.3), (0.2, 0.3, 0.5)):
        assert torch.equal(_sampled(ComposedPolicy([parent] * len(weights), weights)).normalised, alone)


def test_swapping_parents_and_weights_changes_nothing_but_rounding() -> None:
    a, b = _policy("diffusion", 0), _policy("diffusion", 1, target="v")
    forward, backward = _sampled(ComposedPolicy([a, b], (0.3, 0.7))), _sampled(ComposedPolicy([b, a], (0.7, 0.3)))
    torch.testing.assert_close(forward.normalised, backward.normalised, atol=1e-4, rtol=0)


def test_parents_of_every_kind_and_view_act_together() -> None:
    parents = [
        _policy("flow", 0, ("state",), Horizon(1, 4, 3)),
        _policy("edm", 1, ("state", "object"), Horizon(3, 6, 4), width=24),
        _policy("diffusion", 2, ("object",), Horizon(2, 5, 5)),
    ]
    composed = ComposedPolicy(parents, (0.2, 0.3, 0.5))
    assert composed.horizon == Horizon(3, 6, 3)
    assert set(composed.spec.observations) == {"state", "object"}
    assert composed.path is parents[2].path  # a grid of levels leads
    assert composed.sampler is parents[2].sampler
    sampled = _sampled(composed)
    assert sampled.normalised.shape == (ROWS, 6, 3)
    assert sampled.evaluations.tolist() == [15] * ROWS
    assert bool(torch.isfinite(sampled.normalised).all())


def test_each_parent_sees_the_end_of_a_longer_history() -> None:
    parents = [_policy(seed=0), _policy(seed=1)]
    composed = ComposedPolicy(parents, (0.5, 0.5))
    short, long = _sampled(composed), _sampled(composed, steps=4)
    assert torch.equal(short.normalised, long.normalised)


def test_the_code_repeats_and_selects_rows() -> None:
    composed = ComposedPolicy([_policy(seed=0), _policy("flow", 1, ("object",))], (0.5, 0.5))
    code = composed.encode(_observation())
    assert len(code) == ROWS
    assert len(code.repeat(3)) == 3 * ROWS
    picked = code.repeat(3).rows(torch.arange(0, 3 * ROWS, 3))
    x, t = RowNoise(0, [(row, 0) for row in range(ROWS)]).normal(1, (4, 3))[0], torch.tensor(0.5)
    assert torch.equal(composed.denoiser(picked)(x, t).clean, composed.denoiser(code)(x, t).clean)


def test_parents_are_encoded_once() -> None:
    parents = [_policy(seed=0), _policy(seed=1)]
    calls = []
    for index, parent in enumerate(parents):
        parent.encoder.register_forward_hook(lambda *_, index=index: calls.append(index))
    _sampled(ComposedPolicy(parents, (0.5, 0.5)))
    assert calls == [0, 1]


def test_its_sampler_may_be_replaced_by_one_that_fits() -> None:
    composed = ComposedPolicy([_policy("flow"), _policy("diffusion")], (0.5, 0.5))
    assert isinstance(composed, HasSampler)
    with pytest.raises(ConfigError, match="1 to 50"):
        composed.sampler = make_sampler("ddim", 51)
    with pytest.raises(ConfigError, match="asks at no noise levels"):
        composed.sampler = Descent()  # type: ignore[assignment]
    composed.sampler = Superposition("or", 50)
    assert "log_density_1" in _sampled(composed).info


def _stretched(policy: GenerativePolicy, place: int, factor: float) -> GenerativePolicy:
    policy.normaliser.action.scale[place] *= factor
    return policy


def test_another_action_space_is_one_sentence_that_names_the_dimension() -> None:
    names = ("one", "two")
    with pytest.raises(ConfigError, match=r"dimension 1 \(part 'position', element 1: .*action_statistics="):
        ComposedPolicy([_policy(), _stretched(_policy(), 1, 1.1)], (0.5, 0.5), names)
    with pytest.raises(ConfigError, match=r"'two' .*dimension 2 \(part 'gripper':"):
        ComposedPolicy([_policy(), _stretched(_policy(), 2, 1 + 1e-5)], (0.5, 0.5), names)
    ComposedPolicy([_policy(), _stretched(_policy(), 2, 1 + 5e-7)], (0.5, 0.5), names)
    other = _policy()
    other.spec = replace(other.spec, action=ArraySpec((3,)))
    with pytest.raises(ConfigError, match="action: parts is"):
        ComposedPolicy([_policy(), other], (0.5, 0.5))
    other.spec = replace(_policy().spec, rate_hz=20.0)
    with pytest.raises(ConfigError, match="rate_hz is 20, expected 10"):
        ComposedPolicy([_policy(), other], (0.5, 0.5))
    other.spec = replace(_policy().spec, observations={"state": ArraySpec((3,), unit="m")})
    with pytest.raises(ConfigError, match="stream 'state': unit"):
        ComposedPolicy([_policy(), other], (0.5, 0.5))


def test_two_grids_of_levels_and_two_kinds_are_refused() -> None:
    coarse = _policy()
    coarse.path = VariancePreserving(25)
    with pytest.raises(ConfigError, match="two different diffusion paths"):
        ComposedPolicy([_policy(), coarse], (0.5, 0.5))
    with pytest.raises(ConfigError, match="GenerativePolicy, EnergyPolicy"):
        compose([_policy(), _energies(0)], (0.5, 0.5))
    with pytest.raises(ConfigError, match="nothing to compose"):
        compose([], ())
    with pytest.raises(ConfigError, match="sum 0.9"):
        compose([_policy(), _policy()], (0.5, 0.4))


def test_energies_are_weighed_in_units_of_their_own_gradients() -> None:
    """A parent with itself acts as it does alone, whatever the common unit, and costs twice as much."""
    actions = torch.randn(ROWS, 4, 3, generator=torch.Generator().manual_seed(0))
    parent, other = _energies(0), _energies(0)
    size = gradient_size(parent, _observation(), actions)
    assert size == pytest.approx(_finite_difference_size(parent, actions), rel=0.02)
    composed = ComposedEnergyPolicy([parent, other], (0.3, 0.7), (size, size))
    with torch.no_grad():
        found, alone = _sampled(composed), _sampled(parent)
    torch.testing.assert_close(found.normalised, alone.normalised, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.info["steps"], alone.info["steps"])
    assert torch.equal(found.evaluations, 2 * alone.evaluations)
    exact = ComposedEnergyPolicy([parent, _energies(1)], (1.0, 0.0), (size, 1.0))
    with torch.no_grad():
        assert torch.equal(_sampled(exact).normalised, alone.normalised)


def _finite_difference_size(policy: EnergyPolicy, actions: Tensor) -> float:
    """Root mean square over elements of the slope of U = Tp D E."""
    policy = policy.double()
    observation = {name: value.double() for name, value in _observation().items()}
    chunks, rows, small = policy.normalise(actions.double()), torch.arange(ROWS), 1e-4
    with torch.no_grad():
        landscape = policy.landscape(policy.encode(observation))
        slopes = []
        for place in range(chunks[0].numel()):
            shift = torch.zeros_like(chunks)
            shift.flatten(1)[:, place] = small
            rise = landscape.energy(chunks + shift, rows) - landscape.energy(chunks - shift, rows)
            slopes.append(rise / (2 * small) * chunks[0].numel())
    policy.float()
    return float(torch.stack(slopes).square().mean().sqrt())


@dataclass(frozen=True)
class _Quadratic:
    """A landscape with the step that leads to its minimum at once."""

    stiffness: float
    target: float
    shape: tuple[int, int, int] = (2, 1, 1)
    rule: DescentRule = STRAIGHT
    cost: int = 1

    @property
    def step_size(self) -> Tensor:
        return torch.tensor(1.0 / self.stiffness)

    def energy(self, actions: Tensor, rows: Tensor) -> Tensor:
        return 0.5 * self.stiffness * (actions - self.target).square().mean(dim=(1, 2))


def test_composed_quadratic_energies_are_solved_in_one_step() -> None:
    """Parents E_i = k_i (a - m_i)^2 / 2 with the steps that solve them; the sum's minimum is the weighted mean of m_i,
    with weights w_i k_i / g_i, and one step leads there."""
    parents = (_Quadratic(4.0, -0.5), _Quadratic(0.25, 0.7))
    scales, weights = (2.0, 0.5), (0.3, 0.7)
    step = step_size_of([parent.step_size for parent in parents], scales, weights)
    landscape = ComposedLandscape(parents, weights, scales, parents[0].rule, step)
    found = Descent(1, 1, clip=None).descend(landscape, torch.tensor([[[0.9]], [[-0.2]]])).normalised
    pulls = [w * parent.stiffness / g for w, parent, g in zip(weights, parents, scales, strict=True)]
    known = (pulls[0] * -0.5 + pulls[1] * 0.7) / sum(pulls)
    torch.testing.assert_close(found, torch.full((2, 1, 1), known))


def test_energies_that_cannot_be_added_are_refused() -> None:
    parents = [_energies(0), _energies(1)]
    with pytest.raises(ConfigError, match="no bottom"):
        ComposedEnergyPolicy(parents, (1.5, -0.5), (1.0, 1.0))
    with pytest.raises(ConfigError, match="a positive number for each"):
        ComposedEnergyPolicy(parents, (0.5, 0.5), (1.0, 0.0))
    parents[1].rule = replace(parents[1].rule, momentum=0.5)
    with pytest.raises(ConfigError, match="its rule is"):
        ComposedEnergyPolicy(parents, (0.5, 0.5), (1.0, 1.0))


def _made(name: str, seed: int, *overrides: str) -> tuple[PolicyModule, dict[str, Any]]:
    config = {"policy": small_policy(name, *overrides), "horizon": vars(Horizon(2, 4, 2))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_policy(config, SPEC.select(["state"])).eval(), config


@pytest.mark.parametrize("kinds", [("diffusion", "flow"), ("edm", "diffusion"), ("ebt", "ebt")])
@pytest.mark.parametrize("weights", [(0.4, 0.6), (0.0, 1.0)])
def test_a_saved_composition_samples_the_same(
    kinds: tuple[str, str], weights: tuple[float, float], tmp_path: Path
) -> None:
    parents = [_made(kind, seed) for seed, kind in enumerate(kinds)]
    scales = (0.5, 2.0) if kinds[0] == "ebt" else None
    composed = compose([policy for policy, _ in parents], weights, names=["a", "b"], scales=scales, execution=1)
    known = {name: (config, SPEC.select(["state"])) for name, (_, config) in zip("ab", parents, strict=True)}
    config = composed_config(composed, known, None)
    facts = {"fingerprint": "", "episodes": 1, "versions": {}}
    description = checkpoint.Description(config, composed.spec, "toy", facts, 0, 7, {}, "")
    folder = checkpoint.save(tmp_path, composed, description, None)
    assert sorted(path.name for path in folder.iterdir()) == ["policy.json", "weights.safetensors"]
    loaded, _ = checkpoint.load(tmp_path)
    assert isinstance(loaded, type(composed))
    assert loaded.names == composed.names
    assert loaded.horizon == composed.horizon
    with torch.no_grad():
        assert torch.equal(_sampled(loaded).normalised, _sampled(composed).normalised)
