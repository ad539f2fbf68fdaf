"""Best of K: one candidate is the policy itself, and the choice follows the critic in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from small_policies import small_policy
from torch import Tensor

from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request, Sampled
from robopolicy.errors import ConfigError, SpecError
from robopolicy.inference.selection import BestOf, CandidateNoise, choice_probabilities
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import Policy, PolicyModule
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((3,)), "other": ArraySpec((2,))}, ArraySpec((2,)), 10.0)
ROWS = 5


@dataclass
class Scorer:
    """A critic whose values are a function of the newest state [B, 3] and chunks [B, K, T, D]."""

    score: Callable[[Tensor, Tensor], Tensor]
    spec: RobotSpec = SPEC
    observation_steps: int = 1
    action_steps: int = 2

    def __call__(self, observation: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        return self.score(observation["state"][:, -1], actions)


def constant(state: Tensor, actions: Tensor) -> Tensor:
    return torch.full(actions.shape[:2], 0.5)


def first_number(state: Tensor, actions: Tensor) -> Tensor:
    return actions[:, :, 0, 0] + state[:, None, 0]


def make(name: str) -> PolicyModule:
    """With normalisation that is no identity, and weights that do not begin at zero."""
    torch.manual_seed(0)
    config = {"horizon": {"observation_steps": 2, "prediction": 4, "execution": 2}, "policy": small_policy(name)}
    policy = make_policy(config, SPEC.select(["state"])).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        policy.normaliser.action.scale.copy_(torch.tensor([0.3, 2.0]))
        policy.normaliser.action.offset.copy_(torch.tensor([1.0, -1.0]))
    return policy


def observed(rows: int = ROWS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(rows, 3, *SPEC.observations[name].shape, generator=generator) for name in ("state", "other")
    }


@torch.no_grad()
def drawn(policy: Policy, observation: Mapping[str, Tensor], keys: list[int] | None = None, seed: int = 0) -> Sampled:
    """One call; the rows' last answers are some chunk or other, for the even rows."""
    rows = len(next(iter(observation.values())))
    noise = RowNoise(seed, [(key, 0) for key in keys or range(rows)])
    seen = {name: value[:, -policy.horizon.observation_steps :] for name, value in observation.items()}
    previous = torch.linspace(-1, 1, rows * 8).view(rows, 4, 2)
    request = Request(noise, previous=previous, warm=torch.arange(rows) % 2 == 0)
    return policy.sample(policy.encode(seen), request)


@pytest.mark.parametrize("name", ["diffusion", "flow", "ebt", "bc_gaussian"])
@pytest.mark.parametrize("temperature", [0.0, 1.0, math.inf])
def test_one_candidate_is_the_policy_bit_for_bit(name: str, temperature: float) -> None:
    policy, observation = make(name), observed()
    alone, best = drawn(policy, observation), drawn(BestOf(policy, Scorer(first_number), 1, temperature), observation)
    assert torch.equal(best.normalised, alone.normalised)
    assert torch.equal(best.evaluations, alone.evaluations)
    assert {name: value.tolist() for name, value in alone.info.items()}.items() <= {
        name: value.tolist() for name, value in best.info.items()
    }.items()


@pytest.mark.parametrize("name", ["diffusion", "ebt", "bc_gaussian"])
def test_a_constant_critic_takes_the_policys_own_answer(name: str) -> None:
    policy, observation = make(name), observed()
    alone, best = drawn(policy, observation), drawn(BestOf(policy, Scorer(constant), 4), observation)
    torch.testing.assert_close(best.normalised, alone.normalised, atol=1e-5, rtol=1e-5)
    assert best.info["value_spread"].tolist() == [0.0] * ROWS


def test_all_candidates_are_paid_for() -> None:
    policy = make("diffusion")
    assert (
        drawn(BestOf(policy, Scorer(constant), 7), observed()).evaluations.tolist() == [7 * policy.sampler.steps] * ROWS
    )


def test_the_best_of_more_nested_candidates_is_never_worse() -> None:
    policy, observation = make("diffusion"), observed()
    values = torch.stack(
        [drawn(BestOf(policy, Scorer(first_number), count), observation).info["value"] for count in (1, 2, 4, 8, 16)]
    )
    assert (values.diff(dim=0) >= -1e-5).all()
    assert (values[-1] - values[0]).min() > 0.0


def test_the_value_is_that_of_the_chosen_chunk_in_physical_units() -> None:
    policy, observation = make("diffusion"), observed()
    best = drawn(BestOf(policy, Scorer(first_number), 8), observation)
    chunks = policy.unnormalise(best.normalised)
    expected = first_number(observation["state"][:, -1], chunks[:, None])[:, 0]
    torch.testing.assert_close(best.info["value"], expected)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    policy, observation = make("diffusion"), observed()
    best_of = BestOf(policy, Scorer(first_number), 4, 0.5)
    everyone = drawn(best_of, observation)
    others = {name: torch.cat([value[2:3], torch.randn(4, *value.shape[1:])]) for name, value in observation.items()}
    moved = drawn(best_of, others, keys=[2, 11, 12, 13, 14])
    assert torch.equal(moved.normalised[0], everyone.normalised[2])
    assert moved.info["value"][0] == everyone.info["value"][2]


def test_seeds_decide_everything() -> None:
    best_of, observation = BestOf(make("flow"), Scorer(first_number), 4, 0.5), observed()
    first, second, other = (drawn(best_of, observation, seed=seed).normalised for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("temperature", [1e-30, 0.3, 2.0, 1e30, math.inf])
def test_candidates_are_chosen_as_often_as_the_softmax_says(temperature: float) -> None:
    """Chi-square of 4,000 rows with the same four values; 16.3 is exceeded by chance once in a thousand."""
    values = torch.tensor([0.1, 0.9, 0.4, 0.9 - 1e-3])
    rows = 4_000
    policy = _Numbered(rows)
    best_of = BestOf(policy, Scorer(lambda state, actions: values[actions[:, :, 0, 0].long()]), 4, temperature)
    chosen = drawn(best_of, {"state": torch.zeros(rows, 2, 3)}).normalised[:, 0, 0].long()
    counts = torch.bincount(chosen, minlength=4).double()
    probabilities = torch.softmax((values.double() - 0.9) / temperature, dim=0)
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = rows * probabilities[possible]
    assert ((counts[possible] - expected).square() / expected).sum() < 16.3


def test_probabilities_at_both_ends() -> None:
    values = torch.tensor([[1.0, 3.0, 2.0]])
    assert choice_probabilities(values, 1e-38).tolist() == [[0.0, 1.0, 0.0]]
    torch.testing.assert_close(choice_probabilities(values, math.inf), torch.full((1, 3), 1 / 3))
    torch.testing.assert_close(choice_probabilities(values, 2.0), torch.softmax(values / 2.0, dim=1))


def test_every_candidate_and_its_branches_draw_from_streams_of_their_own() -> None:
    def noise() -> CandidateNoise:
        return CandidateNoise([RowNoise(0, [(0, 0), (1, 0)]), RowNoise(1, [(0, 0), (1, 0)])])

    normal = noise().normal(3, (4, 2))
    assert normal.shape == (3, 4, 4, 2)
    for candidate in range(2):
        assert torch.equal(normal[:, candidate::2], RowNoise(candidate, [(0, 0), (1, 0)]).normal(3, (4, 2)))
    branched = noise().branch(5).uniform(3)
    assert branched.shape == (3, 4)
    assert torch.equal(branched[:, 1::2], RowNoise(1, [(0, 0), (1, 0)]).branch(5).uniform(3))
    assert len(set(branched.flatten().tolist())) == 12


def test_a_selected_policy_can_be_selected_again() -> None:
    policy, observation = make("diffusion"), observed()
    inner = BestOf(policy, Scorer(first_number), 4)
    outer = drawn(BestOf(inner, Scorer(lambda state, actions: -actions[:, :, 1, 1]), 3), observation)
    assert outer.evaluations.tolist() == [12 * policy.sampler.steps] * ROWS
    rows = inner.encode(observation).rows(torch.tensor([3, 1]))
    assert torch.equal(rows.observation["state"], observation["state"][[3, 1]])


def test_the_critic_may_read_more_streams_and_observations_than_the_policy() -> None:
    policy, observation = make("diffusion"), observed()
    best_of = BestOf(policy, _Wide(constant, observation_steps=3), 2)
    assert set(best_of.spec.observations) == {"state", "other"}
    assert best_of.horizon.observation_steps == 3
    torch.testing.assert_close(drawn(best_of, observation).normalised, drawn(policy, observation).normalised)


@pytest.mark.parametrize(
    ("count", "temperature", "steps", "words"),
    [
        (0, 0.0, 2, "candidates=0, expected at least 1"),
        (4, -1.0, 2, "temperature=-1, expected 0 or more"),
        (4, math.nan, 2, "temperature=nan"),
        (4, 0.0, 5, "the critic reads 5 actions, the policy predicts 4: fit one with critic.action_steps=4"),
    ],
)
def test_impossible_choices_are_refused(count: int, temperature: float, steps: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BestOf(make("diffusion"), Scorer(constant, action_steps=steps), count, temperature)


def test_it_says_what_it_does() -> None:
    policy, critic = make("bc_mse"), Scorer(constant)
    assert str(BestOf(policy, critic, 16)) == "the best of 16 candidates"
    assert str(BestOf(policy, critic, 4, 0.25)) == "one of 4 candidates, temperature 0.25"


def test_a_critic_of_another_robot_is_refused() -> None:
    other = RobotSpec("toy", {"state": ArraySpec((4,))}, ArraySpec((2,)), 10.0)
    with pytest.raises(SpecError, match="the critic does not fit the policy: stream 'state': shape is"):
        BestOf(make("diffusion"), Scorer(constant, spec=other), 4)


class _Wide(Scorer):
    """Insists on seeing three observations of both streams."""

    def __call__(self, observation: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        assert observation["state"].shape[1] == observation["other"].shape[1] == 3
        return super().__call__(observation, actions)


@dataclass
class _Numbered:
    """A policy whose candidate k of each row is a chunk of k."""

    rows: int

    def __post_init__(self) -> None:
        self.spec = SPEC.select(["state"])
        self.horizon = make("bc_mse").horizon

    def encode(self, observation: Mapping[str, Tensor]) -> _Code:
        return _Code(len(observation["state"]))

    def sample(self, encoded: _Code, request: Request) -> Sampled:
        number = torch.arange(encoded.count) % (encoded.count // self.rows)
        return Sampled(number.float()[:, None, None].expand(-1, 4, 2), torch.ones(encoded.count))

    def normalise(self, actions: Tensor) -> Tensor:
        return actions

    def unnormalise(self, actions: Tensor) -> Tensor:
        return actions


@dataclass
class _Code:
    count: int

    def repeat(self, count: int) -> _Code:
        return _Code(self.count * count)

    def rows(self, index: Tensor) -> _Code:
        return _Code(len(index))


def test_selections_of_selections_draw_different_candidates() -> None:
    """3 x 3 candidates of a row are nine streams."""
    policy, observation = make("diffusion"), observed()
    seen: list[Tensor] = []

    def remember(state: Tensor, actions: Tensor) -> Tensor:
        seen.append(actions[:, :, 0, 0])
        return actions[:, :, 0, 0]

    drawn(BestOf(BestOf(policy, Scorer(remember), 3), Scorer(constant), 3), observation)
    (candidates,) = seen
    for row in candidates.reshape(ROWS, 9):
        assert len({round(float(value), 4) for value in row}) == 9
