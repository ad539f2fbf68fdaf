from __future__ import annotations

from functools import partial

import pytest
import torch

from robopolicy.errors import ConfigError
from robopolicy.nets.augmentation import Augmentation
from robopolicy.nets.encoder import ObservationEncoder
from robopolicy.nets.vision import ResNetCamera
from robopolicy.spec import ArraySpec, Part

CAMERA = partial(ResNetCamera, width=8, stages=1, keypoints=3, features=4)
CROPPED = partial(CAMERA, augmentation=Augmentation(0.5))
TWO_CAMERAS = {
    "wrist": ArraySpec((16, 16, 3), "uint8"),
    "state": ArraySpec((2,)),
    "front": ArraySpec((12, 20, 3), "uint8", parts=(Part("rgb", 3, "image"),)),
}


def _observation(rows: int, steps: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)

    def images(height: int, width: int) -> torch.Tensor:
        return torch.randint(0, 256, (rows, steps, height, width, 3), generator=generator, dtype=torch.uint8)

    return {
        "front": images(12, 20),
        "state": torch.randn(rows, steps, 2, generator=generator),
        "wrist": images(16, 16),
    }


def test_low_dimensional_streams_stand_side_by_side_in_spec_order() -> None:
    encoder = ObservationEncoder({"b": ArraySpec((2,)), "a": ArraySpec((1,))}, observation_steps=2)
    observation = {"a": torch.tensor([[[9.0], [8.0]]]), "b": torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])}
    assert (encoder.tokens, encoder.size, encoder.draws) == (2, 3, 0)
    assert encoder(observation).tolist() == [[[1, 2, 9], [3, 4, 8]]]
    assert encoder(observation, torch.rand(0, 1)).tolist() == [[[1, 2, 9], [3, 4, 8]]]


def test_numbers_come_first_then_the_features_of_each_camera() -> None:
    encoder, observation = ObservationEncoder(TWO_CAMERAS, 2, CROPPED).eval(), _observation(3)
    tokens = encoder(observation)
    assert (encoder.tokens, encoder.size, encoder.draws) == (2, 2 + 4 + 4, 2 + 2)
    assert tokens.shape == (3, 2, 10)
    assert torch.equal(tokens[..., :2], observation["state"])
    torch.testing.assert_close(tokens[..., 2:6], encoder.cameras["wrist"](observation["wrist"]))
    torch.testing.assert_close(tokens[..., 6:], encoder.cameras["front"](observation["front"]))


def test_every_camera_has_weights_and_draws_of_its_own() -> None:
    encoder, observation = ObservationEncoder(TWO_CAMERAS, 2, CROPPED), _observation(2)
    assert encoder.cameras["wrist"].head is not encoder.cameras["front"].head
    draws = torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    other = torch.cat([draws[:2], (draws[2:] + 0.5) % 1.0])
    before, after = encoder(observation, draws), encoder(observation, other)
    assert torch.equal(before[..., :6], after[..., :6])
    assert not torch.allclose(before[..., 6:], after[..., 6:])


def test_any_number_of_steps_can_be_encoded_each_by_itself() -> None:
    encoder, observation = ObservationEncoder(TWO_CAMERAS, 2, CAMERA), _observation(2)
    newest = {name: value[:, -1:] for name, value in observation.items()}
    torch.testing.assert_close(encoder(newest)[:, 0], encoder(observation)[:, -1])


def test_the_gradient_reaches_every_camera() -> None:
    encoder = ObservationEncoder(TWO_CAMERAS, 2, CAMERA)
    encoder(_observation(2)).square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (ArraySpec((16, 16, 1), "uint16"), r"images of uint16 and shape \[16, 16, 1\]"),
        (ArraySpec((16, 16, 1), "uint8"), r"images of uint8 and shape \[16, 16, 1\]"),
        (ArraySpec((16, 16, 3), parts=(Part("rgb", 3, "image"),)), r"images of float32 and shape \[16, 16, 3\]"),
    ],
)
def test_depth_and_other_images_are_refused(spec: ArraySpec, found: str) -> None:
    with pytest.raises(ConfigError, match=f"stream 'eye' has {found}.*leave it out of task.observations"):
        ObservationEncoder({"eye": spec}, 1, CAMERA)


def test_a_camera_without_a_network_is_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigError, match="stream 'wrist' is a camera.*set policy.camera.*camera=resnet_small"):
        ObservationEncoder(TWO_CAMERAS, 1)
