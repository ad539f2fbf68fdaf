"""Training and inference benchmarks with tiny settings: what they promise, not how fast it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robopolicy.benchmarks import inference, training
from robopolicy.errors import ConfigError


def test_training_reports_each_network_and_precision_and_cleans_up(tmp_path: Path) -> None:
    report = training.run(nets=["mlp"], steps=4, batch=8, rows=40, folder=str(tmp_path))
    assert set(report["steps_per_s"]["mlp"]) == {"32-true", "bf16-mixed"}
    assert min(report["steps_per_s"]["mlp"].values()) > 0
    assert report["device"].startswith("cpu")
    assert list(tmp_path.iterdir()) == []


def test_inference_compares_a_plain_loop_with_the_policy_and_its_fast_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robopolicy.inference.trial._SECONDS", 0.0)
    report = inference.run(net="mlp", steps=4, ways=["matrix", "bf16"], threads=[1], rounds=2)
    figures = report["threads"]["1"]
    assert set(figures["milliseconds"]) == set(figures["times_faster"]) == {"peer", "reference", "bf16"}
    assert min(figures["milliseconds"].values()) > 0
    assert figures["times_faster"]["peer"] == 1.0
    assert figures["difference"]["reference"] == 0.0
    assert 0.0 < figures["difference"]["bf16"] < 0.1
    assert "no convolution" in figures["left_out"]["matrix"]
    assert (report["steps"], report["batch"], report["net"]) == (4, 1, "mlp")


@pytest.mark.parametrize(("scheduler", "steps"), [("ddim", 50), ("ddpm", 100)])
def test_the_peer_of_inference_samples_the_same_distribution(scheduler: str, steps: int) -> None:
    """On a network that is right about one Gaussian, the peer's loop and ours end at the same mean and spread."""
    policy = inference._policy("mlp", scheduler, steps).eval()
    mean, std = 0.3, 0.1
    assert policy.target == "clean"

    class Right(torch.nn.Module):
        def forward(self, x: torch.Tensor, level: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            t = ((level + 1.0) / policy.path.steps)[:, None, None]  # type: ignore[attr-defined]
            alpha, sigma = policy.path.alpha(t), policy.path.sigma(t)
            clean: torch.Tensor = mean + alpha * std**2 * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)
            return clean

    policy.net = Right()
    condition = torch.zeros(200, policy.encoder.tokens, policy.encoder.size)
    torch.manual_seed(0)
    theirs = inference.peer_call(policy, condition, scheduler, steps)()
    ours = inference._sampling(policy, {"state": torch.zeros(200, policy.horizon.observation_steps, 14)})()
    assert float(theirs.mean()) == pytest.approx(float(ours.mean()), abs=0.01)
    assert float(ours.mean()) == pytest.approx(mean, abs=0.01)
    assert float(theirs.std()) == pytest.approx(float(ours.std()), rel=0.35)


def test_inference_knows_its_schedulers() -> None:
    with pytest.raises(ConfigError, match="scheduler=euler is unknown, expected one of ddim, ddpm"):
        inference.run(scheduler="euler")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("run", [training.run, inference.run])
def test_a_device_that_is_not_here_is_one_sentence(run: object) -> None:
    assert callable(run)
    with pytest.raises(ConfigError, match="device=cuda: torch finds no GPU on this machine"):
        run(device="cuda")
    with pytest.raises(ConfigError, match="device=tpu is unknown"):
        run(device="tpu")
