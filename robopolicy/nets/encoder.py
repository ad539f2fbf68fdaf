"""From normalised observations to the condition of a network: tokens [B, N, C]."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robopolicy.errors import ConfigError
from robopolicy.nets.vision import CameraFactory, ResNetCamera
from robopolicy.spec import ArraySpec


class ObservationEncoder(nn.Module):
    """One token for each observation step: low-dimensional streams as they are, then the features of each camera.

    Streams are taken in the order of the spec. `tokens` is N = To, `size` is C, `draws` says how many uniform numbers
    each row wants in training (0 without images).

    Args:
        observations: the streams; an image stream is uint8 [H, W, 3].
        observation_steps: To.
        camera: makes the network of each image stream, each with weights of its own; may be None where there are none.

    Raises ConfigError for images that it cannot read.
    """

    def __init__(
        self, observations: Mapping[str, ArraySpec], observation_steps: int, camera: CameraFactory | None = None
    ) -> None:
        super().__init__()
        images = {name: spec for name, spec in observations.items() if spec.is_image}
        self.streams = [name for name in observations if name not in images]
        cameras = {name: _camera(name, spec, camera) for name, spec in images.items()}
        self.cameras = nn.ModuleDict(cameras)
        self.tokens = observation_steps
        numbers = sum(math.prod(observations[name].shape) for name in self.streams)
        self.size = numbers + sum(network.features for network in cameras.values())
        self._shares = [network.draws for network in cameras.values()]
        self.draws = sum(self._shares)

    def forward(self, observation: Mapping[str, Tensor], draws: Tensor | None = None) -> Tensor:
        """{name: [B, To, ...]}, low-dimensional streams normalised, images uint8, to [B, N, C].

        `draws` [self.draws, B] uniform in [0, 1) augment the images, all steps of a row alike; None leaves them alone.
        Each step is encoded by itself, so any other number of steps will do too.
        """
        shares = [None] * len(self._shares) if draws is None else torch.split(draws, self._shares)
        columns = [observation[name].flatten(2) for name in self.streams]
        for (name, network), share in zip(self.cameras.items(), shares, strict=True):
            columns.append(network(observation[name], share))
        return torch.cat(columns, dim=-1)


def _camera(name: str, spec: ArraySpec, camera: CameraFactory | None) -> ResNetCamera:
    if spec.dtype != "uint8" or len(spec.shape) != 3 or spec.shape[-1] != 3:
        raise ConfigError(
            f"stream '{name}' has images of {spec.dtype} and shape {list(spec.shape)}, a policy reads colour images "
            "only (uint8, [height, width, 3]): leave it out of task.observations"
        )
    if camera is None:
        raise ConfigError(
            f"stream '{name}' is a camera, but the policy has no network for it: set policy.camera, for instance with "
            "camera=resnet_small, or leave it out of task.observations"
        )
    return camera(shape=tuple(spec.shape))
