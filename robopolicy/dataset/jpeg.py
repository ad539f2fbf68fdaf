"""The Zarr v3 codec `robopolicy.jpeg`: one RGB frame a chunk, stored as an ordinary JPEG file.

It is registered through the `zarr.codecs` entry point, so plain `zarr.open` reads our image streams wherever robopolicy
is installed. Our own writer and reader call `robopolicy.dataset.codecs.Jpeg` directly.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.common import JSON, parse_named_configuration

from robopolicy.dataset.codecs import JPEG_CODEC_NAME, Jpeg

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.chunk_grids import ChunkGrid


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """Array-to-bytes codec for uint8 arrays whose chunks are [1, ..., H, W, 3]. `quality` is 1 to 100."""

    quality: int = 90
    is_fixed_size = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"JPEG quality is {self.quality}, expected 1 to 100")

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        _, configuration = parse_named_configuration(data, JPEG_CODEC_NAME)
        return cls(**configuration)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, JSON]:
        return {"name": JPEG_CODEC_NAME, "configuration": {"quality": self.quality}}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: ChunkGrid) -> None:
        """Raises ValueError for anything but uint8 with one RGB frame a chunk."""
        chunk = getattr(chunk_grid, "chunk_shape", shape)
        if dtype.to_native_dtype() != np.uint8 or len(chunk) < 3 or chunk[-1] != 3 or set(chunk[:-3]) - {1}:
            raise ValueError(f"codec '{JPEG_CODEC_NAME}' takes uint8 chunks of one RGB frame, found {dtype} {chunk}")

    def compute_encoded_size(self, _input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("the size of a JPEG frame is known only after encoding it")

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        out = np.empty(chunk_spec.shape, dtype=np.uint8)
        data = np.frombuffer(chunk_bytes.to_bytes(), dtype=np.uint8)
        await asyncio.to_thread(Jpeg(self.quality).decode_into, data, out)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(out)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        data = await asyncio.to_thread(Jpeg(self.quality).encode, chunk_array.as_numpy_array())
        return chunk_spec.prototype.buffer.from_bytes(data)
