"""Policies with goals: what is dropped in training, what guidance does, and that goals are read at all."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from small_policies import small_policy
from torch import Tensor

from robopolicy.denoise.guidance import GuidedDenoiser
from robopolicy.denoise.noise import RowNoise, StepNoise
from robopolicy.denoise.paths import VariancePreserving
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.nets.encoder import ObservationEncoder
from robopolicy.nets.goal import GoalEncoder
from robopolicy.nets.mlp import ResidualMlp
from robopolicy.nets.vision import ResNetCamera
from robopolicy.policies.factory import make_policy
from robopolicy.policies.generative import GenerativePolicy
from robopolicy.policies.policy import Encoded, GoalInput, Horizon, LearnedPolicy
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("toy", {"state": ArraySpec((1,)), "goal_state": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
HORIZON = Horizon(2, 4, 2)
ROWS = 6
NEARLY_ALL = 1.0 - 1e-7
UNGUIDED = ["bc_mse", "bc_gaussian", "ebt"]


def make(dropout: float = 0.1, names: tuple[str, ...] = ("goal_state",), **options: Any) -> GenerativePolicy:
    torch.manual_seed(0)
    net = partial(ResidualMlp, width=64, blocks=2, level_size=32)
    sampler = make_sampler("ddim", 10)
    goals = GoalInput(names, dropout)
    return GenerativePolicy(SPEC, HORIZON, net, VariancePreserving(50), sampler, "clean", goals=goals, **options)


def batch(rows: int = ROWS, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The chunk goes to the goal, which is +0.5 or -0.5; the state says nothing."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.rand(rows, 2, 1, generator=generator) * 2 - 1
    goal = torch.randint(0, 2, (rows, 1, 1), generator=generator).float() - 0.5
    return {"state": state, "goal_state": goal}, goal.expand(rows, 4, 1).clone()


def request(rows: int = ROWS) -> Request:
    return Request(RowNoise(0, [(row, 0) for row in range(rows)]))


def test_the_goal_is_the_last_token_and_at_deployment_its_newest_value_counts() -> None:
    policy, (observation, _) = make().eval(), batch()
    encoded = policy.encode(observation)
    assert encoded.condition.shape == (ROWS, 3, 2)
    assert policy.encoder.tokens == 3
    assert policy.encoder.size == 2
    torch.testing.assert_close(encoded.condition[:, :2, :1], observation["state"])
    history = torch.cat([torch.full((ROWS, 1, 1), 9.0), observation["goal_state"]], dim=1)
    again = policy.encode({**observation, "goal_state": history})
    assert torch.equal(again.condition, encoded.condition)


def test_without_its_goal_a_row_has_the_learned_token_and_the_same_steps() -> None:
    policy, (observation, _) = make().eval(), batch()
    encoded = policy.encode(observation)
    assert isinstance(policy.encoder, GoalEncoder)
    assert encoded.goal_free is not None
    assert torch.equal(encoded.goal_free[:, :2], encoded.condition[:, :2])
    assert torch.equal(encoded.goal_free[:, 2], policy.encoder.none.expand(ROWS, -1))


@pytest.mark.parametrize(("dropout", "dropped"), [(0.0, 0), (NEARLY_ALL, 400)])
def test_dropout_is_for_training_only(dropout: float, dropped: int) -> None:
    policy, (observation, _) = make(dropout).train(), batch(400)
    encoded = policy.encode(observation, StepNoise((1,), 400))
    assert encoded.goal_free is not None
    assert int((encoded.condition == encoded.goal_free).all(dim=(1, 2)).sum()) == dropped
    quiet = policy.eval().encode(observation, StepNoise((1,), 400))
    assert torch.equal(quiet.condition, policy.encode(observation).condition)
    assert quiet.goal_free is not None
    assert not (quiet.condition == quiet.goal_free).all(dim=(1, 2)).any()


def test_a_tenth_of_the_rows_is_dropped_by_keyed_noise() -> None:
    policy, (observation, _) = make(0.1).train(), batch(4000)
    first, second, other = (policy.encode(observation, StepNoise((key,), 4000)) for key in (1, 1, 2))
    assert first.goal_free is not None
    share = (first.condition == first.goal_free).all(dim=(1, 2)).float().mean()
    assert float(share) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(first.condition, second.condition)
    assert not torch.equal(first.condition, other.condition)


def test_with_every_goal_dropped_only_the_learned_token_is_trained() -> None:
    policy = make(NEARLY_ALL).train()
    policy.loss(*batch(), StepNoise((0,), ROWS)).sum().backward()
    assert isinstance(policy.encoder, GoalEncoder)
    project, none = policy.encoder.project.weight.grad, policy.encoder.none.grad
    assert project is not None
    assert none is not None
    assert float(project.abs().max()) == 0.0
    assert float(none.abs().max()) > 0.0


@torch.no_grad()
def test_weights_one_and_zero_are_the_conditional_and_the_unconditional_policy_bit_for_bit() -> None:
    policy, (observation, _) = make().eval(), batch()
    encoded = policy.encode(observation)
    assert encoded.goal_free is not None
    conditional = policy.sample(Encoded(encoded.condition), request())
    unconditional = policy.sample(Encoded(encoded.goal_free), request())
    assert not torch.equal(conditional.normalised, unconditional.normalised)
    for weight, wanted in ((1.0, conditional), (0.0, unconditional)):
        policy.guidance = weight
        found = policy.sample(encoded, request())
        assert torch.equal(found.normalised, wanted.normalised)
        assert torch.equal(found.evaluations, wanted.evaluations)
    policy.guidance = 1.5
    assert isinstance(policy.denoiser(encoded), GuidedDenoiser)
    assert policy.sample(encoded, request()).evaluations.tolist() == [20] * ROWS


def test_guided_sampling_encodes_once() -> None:
    policy, calls = make(guidance=2.0).eval(), {"encoder": 0, "net": 0}

    def count(name: str) -> Any:
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    policy.encoder.register_forward_hook(count("encoder"))
    policy.net.register_forward_hook(count("net"))
    policy.sample(policy.encode(batch()[0]), request())
    assert calls == {"encoder": 1, "net": 20}


def test_repeated_and_chosen_rows_keep_what_has_no_goal() -> None:
    encoded = Encoded(torch.arange(3.0).view(3, 1, 1), torch.arange(3.0).view(3, 1, 1) + 10)
    repeated, chosen = encoded.repeat(2), encoded.rows(torch.tensor([2, 0]))
    assert repeated.goal_free is not None
    assert chosen.goal_free is not None
    assert repeated.goal_free.flatten().tolist() == [10, 10, 11, 11, 12, 12]
    assert chosen.goal_free.flatten().tolist() == [12, 10]


def test_a_trained_policy_follows_its_goal_and_without_it_takes_either() -> None:
    policy = make(0.2).train()
    optimiser = torch.optim.Adam(policy.parameters(), lr=2e-3)
    for step in range(400):
        loss = policy.loss(*batch(256, step), StepNoise((step,), 256)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    policy.eval()
    observation, wanted = batch(200, 1000)
    with torch.no_grad():
        encoded = policy.encode(observation)
        for weight in (1.0, 1.5):
            policy.guidance = weight
            reached = policy.unnormalise(policy.sample(encoded, request(200)).normalised)
            assert float((reached - wanted).abs().mean()) < 0.1
        policy.guidance = 0.0
        ends = policy.unnormalise(policy.sample(encoded, request(200)).normalised).mean(dim=(1, 2))
    assert 0.3 < float((ends > 0).float().mean()) < 0.7
    assert float((ends.abs() - 0.5).abs().lt(0.15).float().mean()) > 0.9


def test_goals_from_cameras_are_read_by_their_own_network() -> None:
    image = ArraySpec((24, 24, 3), "uint8")
    camera = partial(ResNetCamera, width=4, stages=1, keypoints=4, features=5)
    encoder = GoalEncoder(
        ObservationEncoder({"state": ArraySpec((3,))}, 2, camera), ObservationEncoder({"goal_image": image}, 1, camera)
    )
    images = torch.randint(0, 255, (4, 1, 24, 24, 3), dtype=torch.uint8)
    observation = {"state": torch.randn(4, 2, 3), "goal_image": images}
    condition = encoder(observation)
    assert condition.shape == (4, 3, 6)
    assert encoder.size == 6
    assert torch.equal(condition[:, :2, 3:], torch.zeros(4, 2, 3))
    changed = encoder({**observation, "goal_image": images.flip(0)})
    assert torch.equal(changed[:, :2], condition[:, :2])
    torch.testing.assert_close(changed[:, 2], condition[:, 2].flip(0))


def make_unguided(name: str, dropout: float = 0.1) -> LearnedPolicy:
    config = {"policy": small_policy(name, "sampler.clip=null"), "horizon": vars(HORIZON)}
    torch.manual_seed(0)
    return make_policy({**config, "goals": {"names": ["goal_state"], "dropout": dropout}}, SPEC)


@pytest.mark.parametrize("name", UNGUIDED)
def test_other_policies_read_goals_too(name: str) -> None:
    policy = make_unguided(name).eval()
    observation, _ = batch()
    turned = {**observation, "goal_state": -observation["goal_state"]}
    with torch.no_grad():
        first, second = (policy.sample(policy.encode(values), request()).normalised for values in (observation, turned))
    assert not torch.allclose(first, second)


def test_a_trained_energy_policy_follows_its_goal() -> None:
    policy = make_unguided("ebt").train()
    optimiser = torch.optim.Adam(policy.parameters(), lr=5e-3)
    for step in range(100):
        loss = policy.loss(*batch(64, step), StepNoise((step,), 64)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    observation, wanted = batch(100, 1000)
    with torch.no_grad():
        sampled = policy.eval().sample(policy.encode(observation), request(100))
    assert float((policy.unnormalise(sampled.normalised) - wanted).abs().mean()) < 0.1


@pytest.mark.parametrize("name", UNGUIDED)
def test_a_policy_that_cannot_be_guided_loses_no_goals_in_training(name: str) -> None:
    policy, (observation, actions) = make_unguided(name, NEARLY_ALL).train(), batch()
    encoded = policy.encode(observation, StepNoise((1,), ROWS))
    assert torch.equal(encoded.condition, policy.encode(observation).condition)
    policy.loss(observation, actions, StepNoise((0,), ROWS)).sum().backward()
    assert isinstance(policy.encoder, GoalEncoder)
    project, none = policy.encoder.project.weight.grad, policy.encoder.none.grad
    assert project is not None
    assert float(project.abs().max()) > 0.0
    assert none is not None  # distributed training wants a gradient for every weight
    assert float(none.abs().max()) == 0.0


def test_a_configuration_names_the_goals_and_mistakes_are_refused() -> None:
    config = {
        "policy": {
            "_target_": "robopolicy.policies.cloning.MeanSquaredCloning",
            "net": {"_target_": "robopolicy.nets.mlp.RegressionMlp", "_partial_": True, "width": 16, "blocks": 1},
        },
        "horizon": {"observation_steps": 2, "prediction": 4, "execution": 2},
    }
    assert make_policy(config, SPEC).encoder.tokens == 2
    policy = make_policy({**config, "goals": {"names": ["goal_state"], "dropout": 0.3}}, SPEC)
    assert policy.encoder.tokens == 3
    assert policy.goals == GoalInput(["goal_state"], 0.3)
    with pytest.raises(ConfigError, match=r"goals \['goal_x'\] are no streams of the policy"):
        make_policy({**config, "goals": {"names": ["goal_x"], "dropout": 0.1}}, SPEC)
    for dropout in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="goal_dropout is .*, expected 0 or more and less than 1"):
            GoalInput((), dropout)
    malformed: list[Any] = [["goal_state"], {"names": 3}, {"names": ["goal_state"], "share": 0.1}]
    for goals in malformed:
        with pytest.raises(ConfigError, match=r"^goals .* is malformed: "):
            make_policy({**config, "goals": goals}, SPEC)
    for names in ("goal_state", [3]):
        with pytest.raises(ConfigError, match="the goals are .*, expected a list of names of streams"):
            make_policy({**config, "goals": {"names": names}}, SPEC)
    with pytest.raises(ConfigError, match=r"^horizon \[2, 4\] is malformed: "):
        make_policy({**config, "horizon": [2, 4]}, SPEC)


def test_guidance_needs_goals() -> None:
    policy = make(names=())
    policy.guidance = 1.0
    with pytest.raises(ConfigError, match="guidance=1.5 needs a policy with goals"):
        policy.guidance = 1.5


@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_guidance_needs_training_without_goals_too(weight: float) -> None:
    policy = make(0.0)
    policy.guidance = 1.0
    for attempt in (lambda: setattr(policy, "guidance", weight), lambda: make(0.0, guidance=weight)):
        with pytest.raises(ConfigError, match=f"guidance={weight:g} needs .* but goal_dropout was 0"):
            attempt()
