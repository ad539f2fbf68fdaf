"""From camera images to a few numbers: ResNet-18 with group normalisation, then a spatial softmax.

The residual network is He et al.'s (arXiv 1512.03385, table 1, 18 layers) with GroupNorm (Wu and He, arXiv 1803.08494)
in place of BatchNorm, whose running statistics neither an averaged copy of the weights nor a batch of one robot can
use. The spatial softmax (Levine et al., arXiv 1504.00702, section 5) reads from each feature map where it is strongest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robopolicy.errors import ConfigError
from robopolicy.nets.augmentation import Augmentation

_STAGES = 4
_CHANNELS_OF_A_GROUP = 16


class ResNetCamera(nn.Module):
    """One camera: images [B, T, H, W, 3] uint8 to [B, T, features], each step by itself.

    `draws` says how many uniform numbers a row wants in training.

    Args:
        shape: (H, W, 3) of the images, of any size that leaves maps of more than one pixel.
        width: channels of the first stage; 64 is the standard network, 16 and 32 train on a CPU.
        stages: of residual blocks, 1 to 4; each beyond the first halves the resolution and doubles the channels, so
            fewer leave finer maps for the keypoints.
        keypoints: maps of the spatial softmax.
        features: numbers that come out.
        augmentation: of images in training, and what they are cropped to always.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        width: int = 64,
        stages: int = _STAGES,
        keypoints: int = 32,
        features: int = 64,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.features = features
        self.augmentation = augmentation or Augmentation(crop=1.0)
        self.draws = self.augmentation.draws
        _check_maps(self.augmentation.size(*shape[:2]), stages)
        self.trunk = ResNet18Trunk(width, stages)
        self.maps = nn.Conv2d(self.trunk.channels, keypoints, 1, bias=False)  # a softmax would not see it
        self.head = nn.Linear(2 * keypoints, features)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as images come: 10 % faster on a CPU

    def forward(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """`draws` [self.draws, B] uniform in [0, 1) augment; without them the crop is the one at the centre."""
        if images.dtype != torch.uint8 or tuple(images.shape[2:]) != self.shape:
            raise ConfigError(
                f"images are {str(images.dtype).removeprefix('torch.')} of shape {list(images.shape[2:])}, "
                f"the policy expects uint8 of shape {list(self.shape)}"
            )
        pictures = 2.0 * self.augmentation(images, draws) - 1.0
        maps: Tensor = self.maps(self.trunk(pictures.flatten(0, 1).permute(0, 3, 1, 2)))
        features: Tensor = self.head(spatial_softmax(maps))
        return features.view(*images.shape[:2], self.features)


CameraFactory = Callable[..., ResNetCamera]
"""Called with `shape`, the (H, W, 3) of a camera's images; an encoder asks it once for each camera."""


class ResNet18Trunk(nn.Sequential):
    """Images [N, 3, H, W] to maps [N, channels, about H / 2^(stages + 1), ...]: a ResNet-18 without its classifier."""

    def __init__(self, width: int = 64, stages: int = _STAGES) -> None:
        if not 1 <= stages <= _STAGES:
            raise ConfigError(f"camera.stages is {stages}, expected 1 to {_STAGES}")
        if width < 1 or (width > _CHANNELS_OF_A_GROUP and width % _CHANNELS_OF_A_GROUP):
            raise ConfigError(f"camera.width is {width}, expected a multiple of {_CHANNELS_OF_A_GROUP} or less")
        layers = [nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), _norm(width), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        channels = width
        for stage in range(stages):
            outputs = width * 2**stage
            layers += [ResidualBlock(channels, outputs, 2 if stage else 1), ResidualBlock(outputs, outputs, 1)]
            channels = outputs
        super().__init__(*layers)
        self.channels = channels


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = _norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = _norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), _norm(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        hidden = torch.relu(self.first_norm(self.first(maps)))
        hidden = self.second_norm(self.second(hidden))
        return torch.relu(hidden + self.shortcut(maps))


def spatial_softmax(maps: Tensor) -> Tensor:
    """Maps [N, K, h, w] to [N, 2 K]: the expected (x, y) of each map's softmax over its pixels.

    Pixel centres lie evenly from -1 (left, top) to 1 (right, bottom); an axis of one pixel gives 0. Computed in
    float32, for half precision would blur the coordinates.
    """
    height, width = maps.shape[-2:]
    weights = maps.float().flatten(2).softmax(dim=-1).view(maps.shape)
    x = (weights.sum(dim=-2) * _axis(width, maps.device)).sum(dim=-1)
    y = (weights.sum(dim=-1) * _axis(height, maps.device)).sum(dim=-1)
    return torch.stack([x, y], dim=-1).flatten(1)


def _check_maps(crop: tuple[int, int], stages: int) -> None:
    """A spatial softmax over one pixel would see nothing."""
    if max(crop) <= 2 ** (stages + 1):
        raise ConfigError(
            f"camera.stages is {stages}, which leaves one pixel of images cropped to {crop[0]}x{crop[1]} px, "
            "expected fewer stages or larger images"
        )


def _axis(size: int, device: torch.device) -> Tensor:
    return torch.linspace(-1.0, 1.0, size, device=device) if size > 1 else torch.zeros(1, device=device)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(channels // _CHANNELS_OF_A_GROUP, 1), channels)
