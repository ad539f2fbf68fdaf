"""How one chunk of numbers becomes bytes and back: lossless Blosc for anything, JPEG for RGB images.

Both are what a Zarr v3 codec chain says, done here without zarr because the frame write and the window read are hot
paths. `robopolicy.dataset.jpeg` tells zarr itself how to read the JPEG chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from robopolicy.errors import DatasetError
from robopolicy.spec import ArraySpec

JPEG_CODEC_NAME = "robopolicy.jpeg"

numcodecs.blosc.use_threads = False  # its shared thread pool is neither thread-safe nor needed: callers bring threads


class ChunkCodec(Protocol):
    """Encodes one C-contiguous chunk and decodes it into an array that the caller has allocated."""

    def documents(self, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        """The codec chain as Zarr v3 metadata."""

    def encode(self, chunk: NDArray[Any]) -> bytes: ...

    def decode_into(self, data: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Fills `out`, the chunk's own shape and dtype. Raises ValueError when the bytes are not such a chunk."""


@dataclass(frozen=True)
class Blosc:
    """Lossless Blosc-zstd: opens anywhere. Level 1 keeps up with cameras, level 5 is for small arrays."""

    level: int = 1

    def documents(self, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        configuration = {
            "cname": "zstd",
            "clevel": self.level,
            "shuffle": "bitshuffle" if dtype.itemsize == 1 else "shuffle",
            "typesize": dtype.itemsize,
            "blocksize": 0,
        }
        endian = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
        return [{"name": "bytes", **endian}, {"name": "blosc", "configuration": configuration}]

    def encode(self, chunk: NDArray[Any]) -> bytes:
        little = chunk.astype(chunk.dtype.newbyteorder("<"), copy=False)
        shuffle = numcodecs.blosc.BITSHUFFLE if chunk.itemsize == 1 else numcodecs.blosc.SHUFFLE
        encoded: bytes = numcodecs.blosc.compress(np.ascontiguousarray(little), b"zstd", self.level, shuffle)
        return encoded

    def decode_into(self, data: NDArray[np.uint8], out: NDArray[Any]) -> None:
        size = _blosc_size(data)
        if size != out.nbytes:
            raise ValueError(f"a chunk of {size} bytes, expected {out.nbytes}")
        try:
            numcodecs.blosc.decompress(data, out)
        except RuntimeError as error:
            raise ValueError("a chunk that is not Blosc data") from error


@dataclass(frozen=True)
class Jpeg:
    """JPEG with `quality` 1 to 100: lossy, [..., H, W, 3] uint8 RGB with one frame a chunk."""

    quality: int = 90

    def documents(self, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        return [{"name": JPEG_CODEC_NAME, "configuration": {"quality": self.quality}}]

    def encode(self, chunk: NDArray[Any]) -> bytes:
        frame = np.ascontiguousarray(chunk).reshape(chunk.shape[-3:])
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not done:
            raise ValueError(f"a frame of shape {chunk.shape} that JPEG cannot hold")
        return bytes(encoded)

    def decode_into(self, data: NDArray[np.uint8], out: NDArray[Any]) -> None:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        frame = out.reshape(out.shape[-3:])
        if bgr is None or bgr.shape != frame.shape:
            raise ValueError(f"a chunk that is not a JPEG frame of shape {frame.shape}")
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=frame)


def codec_of(name: str, stream: str, spec: ArraySpec) -> ChunkCodec:
    """The codec that `name` ("blosc", "jpeg:90") means for an image stream.

    Raises DatasetError for an unknown name and for a lossy codec on anything but 8-bit RGB: depth stays exact.
    """
    if name == "blosc":
        return Blosc()
    kind, _, quality = name.partition(":")
    if kind != "jpeg" or not quality.isdecimal() or not 1 <= int(quality) <= 100:
        raise DatasetError(f"stream '{stream}' has codec '{name}', expected 'blosc' or 'jpeg:1' to 'jpeg:100'")
    if spec.dtype != "uint8" or spec.shape[-1] != 3:
        raise DatasetError(
            f"stream '{stream}' of dtype {spec.dtype} and shape {spec.shape} cannot be stored with the lossy codec "
            f"'{name}', which takes uint8 [H, W, 3] only; use 'blosc'"
        )
    return Jpeg(int(quality))


def codec_from_documents(documents: Sequence[Mapping[str, Any]]) -> ChunkCodec:
    """The codec of a stored array. Raises ValueError for a chain that this library does not write."""
    names = [document["name"] for document in documents]
    if names == [JPEG_CODEC_NAME]:
        return Jpeg(int(documents[0]["configuration"]["quality"]))
    if names == ["bytes", "blosc"]:
        return Blosc(int(documents[1]["configuration"]["clevel"]))
    raise ValueError(f"the codecs {names}, expected [bytes, blosc] or [{JPEG_CODEC_NAME}]")


def _blosc_size(data: NDArray[np.uint8]) -> int:
    """Decoded size, from the fixed header: four bytes of settings, then three little-endian 32-bit sizes."""
    if len(data) < 16:
        raise ValueError(f"a chunk of {len(data)} bytes, too short for Blosc")
    return int(data[4:8].view("<u4")[0])
