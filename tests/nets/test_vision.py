from __future__ import annotations

import pytest
import torch
from torch import nn

from robopolicy.errors import ConfigError
from robopolicy.nets.augmentation import Augmentation
from robopolicy.nets.vision import ResNet18Trunk, ResNetCamera, spatial_softmax


def _images(rows: int, steps: int = 2, shape: tuple[int, int, int] = (24, 32, 3)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(0, 256, (rows, steps, *shape), generator=generator, dtype=torch.uint8)


def _camera(**options: object) -> ResNetCamera:
    torch.manual_seed(0)
    return ResNetCamera((24, 32, 3), **{"width": 8, "stages": 2, "keypoints": 4, "features": 5, **options})  # type: ignore[arg-type]


def test_the_standard_trunk_is_resnet_18_with_group_normalisation() -> None:
    """11,176,512 weights: torchvision's resnet18 has 11,689,512 with its classifier of 512 x 1000 + 1000."""
    trunk = ResNet18Trunk()
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 11_689_512 - 513_000
    assert sum(isinstance(module, nn.Conv2d) for module in trunk.modules()) == 20  # 17 and three shortcuts
    assert trunk(torch.zeros(1, 3, 96, 96)).shape == (1, 512, 3, 3)
    assert ResNet18Trunk(16, 3)(torch.zeros(1, 3, 84, 84)).shape == (1, 64, 6, 6)


def test_nothing_keeps_statistics_of_a_batch() -> None:
    camera = _camera()
    kinds = {type(module).__name__ for module in camera.modules()}
    assert "GroupNorm" in kinds
    assert not any("BatchNorm" in kind for kind in kinds)
    assert list(camera.buffers()) == []


def test_a_map_with_one_peak_gives_the_coordinates_of_its_pixel() -> None:
    maps = torch.full((1, 3, 5, 9), -1e4)
    for index, (row, column) in enumerate([(0, 0), (4, 8), (1, 6)]):
        maps[0, index, row, column] = 1e4
    torch.testing.assert_close(spatial_softmax(maps), torch.tensor([[-1.0, -1.0, 1.0, 1.0, 0.5, -0.5]]))


def test_a_flat_map_gives_the_centre_and_two_peaks_the_middle_between_them() -> None:
    torch.testing.assert_close(spatial_softmax(torch.zeros(2, 3, 4, 7)), torch.zeros(2, 6))
    torch.testing.assert_close(spatial_softmax(torch.zeros(1, 1, 1, 1)), torch.zeros(1, 2))
    maps = torch.full((1, 1, 3, 5), -1e4)
    maps[0, 0, 0, 0] = maps[0, 0, 0, 2] = 0.0
    torch.testing.assert_close(spatial_softmax(maps), torch.tensor([[-0.5, -1.0]]))


@pytest.mark.parametrize("shape", [(24, 32, 3), (96, 96, 3), (8, 50, 3)])
def test_any_size_of_images_becomes_features_of_each_step(shape: tuple[int, int, int]) -> None:
    camera = ResNetCamera(shape, width=8, stages=2, keypoints=4, features=5, augmentation=Augmentation(0.875))
    assert camera(_images(2, 3, shape)).shape == (2, 3, 5)
    assert camera(_images(2, 3, shape), torch.rand(2, 2)).shape == (2, 3, 5)


def test_rows_and_steps_do_not_mix() -> None:
    camera, images = _camera().eval(), _images(3)
    whole = camera(images)
    torch.testing.assert_close(camera(images[1:2])[0], whole[1])
    torch.testing.assert_close(camera(images[:, 1:])[:, 0], whole[:, 1])
    assert not torch.allclose(whole[0], whole[1])


def test_a_frame_that_stands_still_keeps_its_features_under_augmentation() -> None:
    camera = _camera(augmentation=Augmentation(0.5, brightness=0.5))
    still = _images(2, 1).expand(2, 2, 24, 32, 3)
    features = camera(still, torch.rand(3, 2))
    torch.testing.assert_close(features[:, 0], features[:, 1])
    assert not torch.allclose(features, camera(still))


def test_every_weight_gets_a_gradient() -> None:
    camera = _camera(stages=3)
    camera(_images(2)).square().sum().backward()
    assert [name for name, parameter in camera.named_parameters() if parameter.grad is None] == []
    silent = [name for name, parameter in camera.named_parameters() if not torch.any(parameter.grad)]  # type: ignore[arg-type]
    assert silent == []


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (torch.zeros(1, 1, 24, 32, 3), "images are float32 of shape [24, 32, 3]"),
        (_images(1, 1, (32, 24, 3)), "images are uint8 of shape [32, 24, 3]"),
    ],
)
def test_images_of_another_kind_are_refused(images: torch.Tensor, found: str) -> None:
    with pytest.raises(ConfigError) as error:
        _camera()(images)
    assert str(error.value) == f"{found}, the policy expects uint8 of shape [24, 32, 3]"


def test_images_too_small_for_the_stages_are_refused() -> None:
    with pytest.raises(ConfigError, match="camera.stages is 4, which leaves one pixel of images cropped to 24x32 px"):
        _camera(stages=4)


@pytest.mark.parametrize(("option", "value"), [("stages", 5), ("stages", 0), ("width", 20), ("width", 0)])
def test_impossible_sizes_are_refused(option: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"camera.{option} is {value}"):
        _camera(**{option: value})
