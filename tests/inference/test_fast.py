"""Fast ways and the reference: the same policy within the stated tolerance, and a choice that is kept."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robopolicy.configuration import load, plain
from robopolicy.denoise.noise import RowNoise
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import ConfigError
from robopolicy.inference import fast
from robopolicy.inference.compiled import CompiledForward
from robopolicy.inference.compose import compose
from robopolicy.inference.continuation import Continuation
from robopolicy.inference.fast import FILE, TOLERANCE, make_fast
from robopolicy.inference.trial import Trial
from robopolicy.inference.warm_start import RealTimeIteration
from robopolicy.policies.factory import make_policy
from robopolicy.policies.policy import PolicyModule
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("small", {"state": ArraySpec((3,))}, ArraySpec((2,)), 10.0)
NETS: Mapping[str, list[str]] = {
    "mlp": ["net.width=32", "net.blocks=1"],
    "unet_small": ["net.channels=[16,32]"],
    "transformer_small": ["net.width=32", "net.blocks=1", "net.heads=2"],
    "dit_small": ["net.width=32", "net.blocks=1", "net.heads=2"],
}
EAGER = ["matrix", "bf16", "int8"]
COMPILED = ["compile", "compile_bf16"]
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler for torch.compile")


def _policy(kind: str = "diffusion", net: str | None = "mlp") -> PolicyModule:
    chosen = ["net.width=16", "net.blocks=1", "net.heads=2"] if net is None else [f"net={net}", *NETS[net]]
    config = plain(load("train", ["task=reach", f"policy={kind}", *chosen]))
    torch.manual_seed(0)
    policy = make_policy({"policy": config["policy"], "horizon": config["horizon"]}, SPEC).eval()
    with torch.no_grad():
        for value in policy.parameters():  # gates and outlets that start at zero would hide a difference
            if not value.any():
                value.normal_(std=0.1)
    return policy


def _chunk(policy: PolicyModule, rows: int = 1) -> Tensor:
    noise = RowNoise(7, [(row, 0) for row in range(rows)])
    observation = {"state": torch.linspace(-1.0, 1.0, 3 * rows).view(rows, 1, 3)}
    observation = {"state": observation["state"].expand(-1, policy.horizon.observation_steps, -1)}
    with torch.no_grad():
        return policy.sample(policy.encode(observation), Request(noise)).normalised


def _ways(net: str, ways: list[str]) -> list[tuple[str, str]]:
    """Only a U-Net has convolutions to rewrite; an untrained one of a few channels is beyond int8's tolerance."""
    left_out = {"int8"} if net == "unet_small" else {"matrix"}
    return [(net, way) for way in ways if way not in left_out]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robopolicy.inference.trial._SECONDS", 0.0)


@pytest.mark.parametrize(("net", "way"), [pair for net in NETS for pair in _ways(net, EAGER)])
def test_eager_ways_answer_as_the_reference_does(net: str, way: str) -> None:
    _check_way(net, way)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("net", "way"), [pair for net in ("mlp", "unet_small") for pair in _ways(net, COMPILED)])
def test_compiled_ways_answer_as_the_reference_does(net: str, way: str) -> None:
    _check_way(net, way)


def _check_way(net: str, way: str) -> None:
    policy = _policy(net=net)
    reference = _chunk(policy)
    report = make_fast(policy, way, batch_size=1)
    assert report.way == way
    assert report.measured[way].difference <= TOLERANCE
    assert (_chunk(policy) - reference).abs().max() <= TOLERANCE
    if way in ("matrix", "compile"):
        torch.testing.assert_close(_chunk(policy), reference, atol=1e-4, rtol=0.0)
    if way.startswith("compile"):
        assert isinstance(getattr(policy, "net").forward, CompiledForward)  # noqa: B009


def test_bf16_weights_really_are_bf16_and_an_energy_keeps_its_gradients() -> None:
    policy = _policy("ebt", None)
    reference = _chunk(policy, rows=3)
    make_fast(policy, "bf16", batch_size=3)
    assert any(value.dtype == torch.bfloat16 for value in policy.parameters())
    found = _chunk(policy, rows=3)
    assert not torch.equal(found, reference)
    assert (found - reference).abs().max() <= TOLERANCE


def test_every_network_of_a_composition_is_made_fast() -> None:
    parents = [_policy(net="unet_small"), _policy("diffusion", "mlp")]
    policy = compose(parents, [0.5, 0.5])
    reference = _chunk(policy)
    report = make_fast(policy, "bf16", batch_size=1)
    assert all(any(value.dtype == torch.bfloat16 for value in parent.parameters()) for parent in parents)
    assert (_chunk(policy) - reference).abs().max() <= TOLERANCE
    assert str(report).startswith("bf16, ")


def test_the_rows_of_a_bf16_batch_are_independent() -> None:
    policy = _policy(net="unet_small")
    make_fast(policy, "bf16", batch_size=3)
    observation = torch.randn(3, policy.horizon.observation_steps, 3)
    changed = observation.clone()
    changed[1:] += 1.0
    noise = [RowNoise(0, [(0, 0), (1, 0), (2, 0)]) for _ in range(2)]
    with torch.no_grad():
        first, second = (
            policy.sample(policy.encode({"state": values}), Request(draws)).normalised
            for values, draws in zip((observation, changed), noise, strict=True)
        )
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


def test_the_reference_is_left_alone_bit_for_bit(tmp_path: Path) -> None:
    policy = _policy()
    before = _chunk(policy)
    assert str(make_fast(policy, "reference", batch_size=1, folder=tmp_path)) == "reference"
    assert torch.equal(_chunk(policy), before)
    assert list(tmp_path.iterdir()) == []


def test_auto_writes_its_choice_and_finds_it_again(tmp_path: Path, without_compiler: None) -> None:
    said: list[str] = []
    first = make_fast(_policy(net="unet_small"), "auto", batch_size=1, folder=tmp_path, say=said.append)
    assert not first.reused
    assert first.measured[first.way].milliseconds == min(
        figures.milliseconds for figures in first.measured.values() if figures.difference <= TOLERANCE
    )
    assert sum("there is no C++ compiler here" in sentence for sentence in said) == len(COMPILED)
    assert set(first.measured) == {"reference", *EAGER}
    (entry,) = json.loads((tmp_path / FILE).read_text())["choices"]
    assert entry["way"] == first.way
    assert entry["conditions"]["batch_size"] == 1
    again = make_fast(_policy(net="unet_small"), "auto", batch_size=1, folder=tmp_path, say=said.append)
    assert again.reused
    assert again.way == first.way
    other = make_fast(_policy(net="unet_small"), "auto", batch_size=2, folder=tmp_path, say=said.append)
    assert not other.reused
    assert "mix the rows" in other.left_out["int8"]
    assert len(json.loads((tmp_path / FILE).read_text())["choices"]) == 2


@pytest.mark.parametrize("damage", ["not JSON", "{}", '{"choices": [3]}', "machine", "way"])
def test_a_choice_that_is_damaged_or_of_another_machine_is_measured_again(
    tmp_path: Path, damage: str, without_compiler: None
) -> None:
    make_fast(_policy(), "auto", batch_size=1, folder=tmp_path, say=lambda _: None)
    text = (tmp_path / FILE).read_text()
    if damage in ("machine", "way"):
        kept = json.loads(text)
        (entry,) = kept["choices"]
        if damage == "machine":
            entry["conditions"]["processor"] = "another one"
        else:
            entry["way"] = "magic"
        damage = json.dumps(kept)
    (tmp_path / FILE).write_text(damage)
    report = make_fast(_policy(), "auto", batch_size=1, folder=tmp_path, say=lambda _: None)
    assert not report.reused
    assert make_fast(_policy(), "auto", batch_size=1, folder=tmp_path, say=lambda _: None).reused


def test_a_kept_choice_that_moves_the_actions_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_compiler: None
) -> None:
    make_fast(_policy(), "auto", batch_size=1, folder=tmp_path, say=lambda _: None)
    kept = json.loads((tmp_path / FILE).read_text())
    kept["choices"][0]["way"] = "bf16"
    (tmp_path / FILE).write_text(json.dumps(kept))
    monkeypatch.setattr(fast, "TOLERANCE", 0.0)
    policy, said = _policy(), list[str]()
    before = _chunk(policy)
    report = make_fast(policy, "auto", batch_size=1, folder=tmp_path, say=said.append)
    assert "does not hold any more" in said[0]
    assert report.way == "reference"
    assert torch.equal(_chunk(policy), before)


def test_a_way_beyond_the_tolerance_is_refused_and_the_policy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "TOLERANCE", 1e-9)
    policy = _policy()
    before = _chunk(policy)
    with pytest.raises(ConfigError, match="fast=bf16 moves normalised actions by .*, expected at most 1e-09"):
        make_fast(policy, "bf16", batch_size=1)
    assert torch.equal(_chunk(policy), before)


def test_ways_that_cannot_work_say_why(without_compiler: None) -> None:
    with pytest.raises(ConfigError, match="fast=warp is unknown, expected one of reference, auto, matrix, bf16"):
        make_fast(_policy(), "warp", batch_size=1)
    with pytest.raises(ConfigError, match="fast=compile does not work here: there is no C.. compiler here"):
        make_fast(_policy(), "compile", batch_size=1)
    with pytest.raises(ConfigError, match="fast=int8 does not work here: its rounding would mix the rows"):
        make_fast(_policy(), "int8", batch_size=2)
    with pytest.raises(ConfigError, match="fast=bf16 does not work here: a mixture of experts"):
        make_fast(_policy("mode", None), "bf16", batch_size=1)
    with pytest.raises(ConfigError, match="fast=compile does not work here: an energy"):
        make_fast(_policy("ebt", None), "compile", batch_size=1)


@pytest.mark.slow
@needs_compiler
def test_compiled_code_serves_the_shapes_of_the_warm_up_and_leaves_gradients_to_the_plain_network() -> None:
    policy = _policy()
    plain_policy = copy.deepcopy(policy)
    make_fast(policy, "compile", batch_size=1)
    compiled: nn.Module = getattr(policy, "net")  # noqa: B009
    assert isinstance(compiled.forward, CompiledForward)
    assert not compiled.forward.learning
    torch.testing.assert_close(_chunk(policy, rows=2), _chunk(plain_policy, rows=2))
    shape = (1, policy.horizon.prediction, 2)
    x, level = torch.randn(shape, requires_grad=True), torch.zeros(1)
    condition = torch.zeros(1, policy.horizon.observation_steps, 3)
    (gradient,) = torch.autograd.grad(compiled(x, level, condition).sum(), x)
    original: nn.Module = getattr(plain_policy, "net")  # noqa: B009
    (expected,) = torch.autograd.grad(original(x, level, condition).sum(), x)
    torch.testing.assert_close(gradient, expected)


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A PATH on which there is nothing."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.delenv("CXX", raising=False)


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_int8_is_refused_where_the_sampler_wants_gradients(kind: str) -> None:
    """torch would leave the gradient out without a word."""
    policy = _policy(kind)
    policy.sampler = Continuation(make_sampler("ddim", 3), 2)
    with pytest.raises(ConfigError, match="fast=int8 does not work here: ConfigError: int8 products have no gradients"):
        make_fast(policy, "int8", batch_size=1)
    policy.sampler = Continuation(make_sampler("ddim", 3), 2, jacobian="identity")
    assert make_fast(policy, "int8", batch_size=1).way == "int8"


def test_later_calls_are_compared_too() -> None:
    """A network that is right as long as nobody continues an answer is not fast but wrong."""
    policy = _policy()
    policy.sampler = RealTimeIteration(make_sampler("ddim", 3), [0.1])
    trial = Trial(policy, 1, torch.device("cpu"))
    assert trial.difference() < 1e-5
    plain_net = policy.net.forward
    policy.net.forward = lambda x, level, condition: (
        plain_net(x, level, condition) + (level < 10.0).float().view(-1, 1, 1)
    )
    assert trial.difference() > 0.5
