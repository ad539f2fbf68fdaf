"""Images varied in training, on the device where the network lives: a random crop and jittered colours.

Every choice is a function of uniform numbers that come from outside, so training noise stays keyed by seed and step.
All observation steps of a row get the same crop and colours: what moves between two frames is information about
velocity, and a crop of their own would be motion that nobody made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robopolicy.errors import ConfigError

_COLOURS = ("brightness", "contrast", "saturation")
_GREY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """Crops of images [B, T, H, W, 3] uint8, with colours jittered in training.

    Attributes:
        crop: side of the crop as a share of the image's, above 0 and at most 1: 0.875 is 84 of 96.
        brightness, contrast, saturation: s in [0, 1) draws a factor from [1 - s, 1 + s]; 0 leaves the colours alone.
    """

    crop: float = 0.875
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.crop <= 1.0:
            raise ConfigError(f"camera.augmentation.crop is {self.crop:g}, expected above 0 and at most 1")
        for name in _COLOURS:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"camera.augmentation.{name} is {getattr(self, name):g}, expected 0 or more, below 1")

    @property
    def draws(self) -> int:
        """Uniform numbers that a row needs: two for the crop, one for each colour change that is on."""
        return 2 * (self.crop < 1.0) + len(self._colours)

    @property
    def _colours(self) -> tuple[str, ...]:
        return tuple(name for name in _COLOURS if getattr(self, name) > 0.0)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the crop of an image, in px."""
        return max(round(self.crop * height), 1), max(round(self.crop * width), 1)

    def __call__(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """[B, T, H, W, 3] uint8 to [B, T, h, w, 3] float32 in [0, 1].

        `draws` [self.draws, B] uniform in [0, 1) chooses crop and colours; None is the crop at the centre, as it is.
        """
        height, width = self.size(*images.shape[2:4])
        room = images.shape[2] - height, images.shape[3] - width
        if draws is None:
            top, left = room[0] // 2, room[1] // 2
            return _unit(images[:, :, top : top + height, left : left + width])
        if draws.shape != (self.draws, len(images)):
            raise ValueError(f"draws have shape {list(draws.shape)}, expected {[self.draws, len(images)]}")
        if self.crop < 1.0:
            tops, lefts = (_places(draws[axis], space) for axis, space in enumerate(room))
            images = crop(images, tops, lefts, height, width)
        return self._jittered(_unit(images), draws[len(draws) - len(self._colours) :])

    def _jittered(self, pictures: Tensor, draws: Tensor) -> Tensor:
        if not self._colours:
            return pictures
        spread = dict(zip(self._colours, 2.0 * draws - 1.0, strict=True))
        same = draws.new_ones(1)
        factors = [1.0 + getattr(self, name) * spread[name] if name in spread else same for name in _COLOURS]
        return jitter(pictures, *factors)


def crop(images: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    """Images [B, T, H, W, C] to [B, T, height, width, C]; row b begins at pixel `tops[b]`, `lefts[b]` (int64)."""
    channels = images.shape[-1]
    every_crop = images.flatten(3).unfold(2, height, 1).unfold(3, width * channels, channels)  # a view, no copy
    batch = torch.arange(len(images), device=images.device)
    return every_crop[batch, :, tops, lefts].view(*images.shape[:2], height, width, channels)


def jitter(pictures: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Pictures [B, T, h, w, 3] in [0, 1] with colours scaled by factors [B] (or one for all) around their fixed points.

    Brightness scales about black, then contrast about the row's mean grey, then saturation about each pixel's grey;
    the three together are x' = b c s x + b c (1 - s) grey(x) + b (1 - c) mean(grey(x)), clipped to [0, 1].
    """
    red, green, blue = pictures.unbind(-1)
    grey = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    brightness, contrast, saturation, mean = (
        value.reshape(-1, 1, 1, 1) for value in (brightness, contrast, saturation, grey.mean(dim=(1, 2, 3)))
    )
    scale = brightness * contrast
    shift = scale * (1.0 - saturation) * grey + brightness * (1.0 - contrast) * mean
    return ((scale * saturation)[..., None] * pictures + shift[..., None]).clamp(0.0, 1.0)


def _places(draws: Tensor, room: int) -> Tensor:
    """Uniform numbers to whole places from 0 to `room`."""
    return (draws * (room + 1)).long().clamp(max=room)


def _unit(images: Tensor) -> Tensor:
    return images * (1.0 / 255.0)
