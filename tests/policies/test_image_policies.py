"""Policies that see: from frames on disk through training and a checkpoint to chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_policies import POLICIES, small_policy

from robopolicy.control.loop import Tick
from robopolicy.control.robot import Sample
from robopolicy.dataset.dataset import Dataset
from robopolicy.dataset.statistics import dataset_statistics
from robopolicy.dataset.windows import Windows
from robopolicy.denoise.descent import Descent
from robopolicy.denoise.noise import RowNoise, StepNoise
from robopolicy.denoise.sampler import Request, make_sampler
from robopolicy.errors import CheckpointError, ConfigError
from robopolicy.policies.factory import make_policy
from robopolicy.policies.normaliser import SpecNormaliser
from robopolicy.policies.policy import LearnedPolicy
from robopolicy.spec import ArraySpec, RobotSpec
from robopolicy.training import checkpoint
from robopolicy.training.trainer import Trainer, TrainingSettings

SPEC = RobotSpec("seeing", {"image": ArraySpec((24, 24, 3), "uint8"), "height": ArraySpec((1,))}, ArraySpec((2,)), 10.0)
CAMERA = {
    "_target_": "robopolicy.nets.vision.ResNetCamera",
    "_partial_": True,
    "width": 8,
    "stages": 1,
    "keypoints": 4,
    "features": 8,
    "augmentation": {"_target_": "robopolicy.nets.augmentation.Augmentation", "crop": 0.75, "brightness": 0.2},
}
CONFIG: dict[str, Any] = {
    "horizon": {"observation_steps": 2, "prediction": 4, "execution": 2},
    "policy": {
        "_target_": "robopolicy.policies.generative.GenerativePolicy",
        "path": {"_target_": "robopolicy.denoise.paths.VariancePreserving", "steps": 100},
        "target": "clean",
        "net": {"_target_": "robopolicy.nets.mlp.ResidualMlp", "_partial_": True, "width": 32, "blocks": 1},
        "sampler": {"_target_": "robopolicy.denoise.sampler.make_sampler", "name": "ddim", "steps": 5},
        "camera": CAMERA,
    },
}


def _dataset(path: Path) -> Dataset:
    """A bright square that moves; the action is where it is."""
    dataset = Dataset.create(path, spec=SPEC, task="seeing", versions={})
    for number in range(3):
        random = np.random.default_rng(number)
        with dataset.writer(number, wait_for_encoder=True) as writer:
            for step in range(10):
                place = random.integers(3, 21, 2)
                image = np.zeros((24, 24, 3), dtype=np.uint8)
                image[place[1] - 3 : place[1] + 3, place[0] - 3 : place[0] + 3] = 255
                time_ns = step * SPEC.period_ns
                values = {"image": image, "height": random.normal(size=1).astype(np.float32)}
                observation = {name: Sample(value, time_ns, step) for name, value in values.items()}
                action = place / 12.0 - 1.0
                writer.record(Tick(step, time_ns, observation, action, action, "script", {}))
            writer.commit(stop_reason="terminated", success=True, metadata={})
    return dataset


def _policy(dataset: Dataset | None = None) -> LearnedPolicy:
    torch.manual_seed(0)
    normaliser = None if dataset is None else SpecNormaliser.fit(SPEC, dataset_statistics(dataset.episodes))
    return make_policy(CONFIG, SPEC, normaliser)


def _batch(rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    image = torch.randint(0, 256, (rows, 2, 24, 24, 3), generator=generator, dtype=torch.uint8)
    return {"image": image, "height": torch.randn(rows, 2, 1, generator=generator)}, torch.zeros(rows, 4, 2)


def _windows(episodes: Any, image_memory: int) -> Windows:
    names = list(SPEC.observations)
    return Windows(episodes, observations=names, observation_steps=2, horizon=4, image_memory=image_memory)


def _train(dataset: Dataset, run: Path, image_memory: int = 0) -> list[float]:
    policy = _policy(dataset)

    def describe(step: int) -> checkpoint.Description:
        return checkpoint.Description(CONFIG, policy.spec, "seeing", {}, 0, step, {}, "commit")

    settings = TrainingSettings(12, 8, warmup_steps=1, save_every=12, validate_every=6, accelerator="cpu")
    windows, held_out = _windows(dataset.episodes[1:], image_memory), _windows(dataset.episodes[:1], 0)
    return Trainer(policy, windows, held_out, settings, run, describe).train()


def test_it_trains_saves_loads_and_samples(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "data")
    losses = _train(dataset, tmp_path / "run")
    assert len(losses) == 12
    assert (tmp_path / "run" / "predictions.png").stat().st_size > 0
    policy, description = checkpoint.load(tmp_path / "run")
    assert description.spec == SPEC
    batch = _windows(dataset.episodes, 0).batch([0, 7])
    observation = {name: torch.as_tensor(value) for name, value in batch.observations.items()}
    with torch.no_grad():
        sampled = policy.sample(policy.encode(observation), Request(RowNoise(0, [(0, 0), (1, 0)])))
    assert policy.unnormalise(sampled.normalised).shape == (2, 4, 2)


def test_images_kept_in_memory_train_the_same_policy(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "data")
    assert _train(dataset, tmp_path / "a", 10**9) == _train(dataset, tmp_path / "b", 0)


def test_the_camera_is_asked_once_a_control_step_however_often_is_denoised() -> None:
    policy, calls = _policy().eval(), []
    policy.sampler = make_sampler("ddpm", 100)
    policy.encoder.cameras["image"].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        sampled = policy.sample(policy.encode(_batch(3)[0]), Request(RowNoise(0, [(row, 0) for row in range(3)])))
    assert sampled.evaluations.tolist() == [100, 100, 100]
    assert len(calls) == 1


def test_noise_augments_in_training_and_changes_nothing_in_evaluation() -> None:
    policy, (observation, _) = _policy(), _batch(3)
    plain = policy.encode(observation).condition
    augmented = policy.encode(observation, StepNoise((1,), 3)).condition
    assert torch.equal(augmented, policy.encode(observation, StepNoise((1,), 3)).condition)
    assert not torch.allclose(augmented, plain)
    assert not torch.allclose(augmented, policy.encode(observation, StepNoise((2,), 3)).condition)
    torch.testing.assert_close(policy.eval().encode(observation, StepNoise((1,), 3)).condition, plain)


def test_a_share_of_a_batch_is_augmented_as_in_the_whole() -> None:
    policy, (observation, actions) = _policy(), _batch(4)
    whole = policy.loss(observation, actions, StepNoise((1,), 4))
    half = {name: value[2:] for name, value in observation.items()}
    torch.testing.assert_close(policy.loss(half, actions[2:], StepNoise((1,), 4, 2, 4)), whole[2:])


def _policy_of(name: str) -> LearnedPolicy:
    torch.manual_seed(0)
    return make_policy({**CONFIG, "policy": {**small_policy(name), "camera": CAMERA}}, SPEC)


@pytest.mark.parametrize("name", POLICIES)
def test_the_loss_of_every_kind_reaches_the_camera(name: str) -> None:
    policy = _policy_of(name)
    policy.loss(*_batch(3), StepNoise((0,), 3)).mean().backward()
    assert all(bool(torch.any(weight.grad)) for weight in policy.encoder.cameras.parameters())  # type: ignore[arg-type]


def test_the_camera_is_asked_once_however_often_a_descent_asks_for_energies() -> None:
    policy, calls = _policy_of("ebt").eval(), {"camera": 0, "energy": 0}
    policy.sampler = Descent(min_steps=5, max_steps=5)

    def count(name: str) -> Any:
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    policy.encoder.cameras["image"].register_forward_hook(count("camera"))
    policy.net.register_forward_hook(count("energy"))
    with torch.no_grad():
        policy.sample(policy.encode(_batch(3)[0]), Request(RowNoise(0, [(row, 0) for row in range(3)])))
    assert calls["camera"] == 1
    assert calls["energy"] > 5


def test_a_missing_image_or_camera_is_named() -> None:
    policy, (observation, _) = _policy(), _batch(2)
    with pytest.raises(CheckpointError, match=r"needs the streams \['image'\], it was given \['height'\]"):
        policy.encode({"height": observation["height"]})
    blind = {**CONFIG, "policy": {key: value for key, value in CONFIG["policy"].items() if key != "camera"}}
    with pytest.raises(ConfigError, match="stream 'image' is a camera.*set policy.camera"):
        make_policy(blind, SPEC)
