"""Frames to an MP4 file in memory that every browser plays, with PyAV: H.264 where there is an encoder, else VP9."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.errors import RenderingError

ENCODERS = ("libx264", "libopenh264", "libvpx-vp9", "libsvtav1", "libaom-av1")
"""In order of preference; all of these play in current browsers."""

_OPTIONS = {
    "libx264": {"crf": "23", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "32", "b": "0", "cpu-used": "8"},
}


class VideoWriter:
    """Encodes frames as they come. Raises RenderingError where PyAV or a usable encoder is missing.

    Args:
        width, height: of the frames; an odd edge is padded by one pixel, as the codecs need.
        rate_hz: frames a second.
    """

    def __init__(self, width: int, height: int, rate_hz: float) -> None:
        self._size = (height, width)
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._av = _import_av()
        self._buffer = io.BytesIO()
        encoder = _encoder(self._av)
        rate = Fraction(rate_hz).limit_denominator(1001)
        with self._errors_named(f"to begin with {encoder}"):
            self._container = self._av.open(self._buffer, "w", format="mp4")
            self._stream = self._container.add_stream(encoder, rate=rate, options=dict(_OPTIONS.get(encoder, {})))
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.thread_count = 1

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends one RGB frame [H, W, 3]."""
        if frame.shape != (*self._size, 3) or frame.dtype != np.uint8:
            raise RenderingError(f"a video frame is {frame.dtype} {frame.shape}, expected uint8 {(*self._size, 3)}")
        padded = np.pad(frame, self._padding, mode="edge") if any(sum(self._padding, ())) else frame
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        with self._errors_named(f"a frame of {frame.shape}"):
            self._container.mux(self._stream.encode(picture))

    def finish(self) -> bytes:
        """The whole file. Nothing can be added after this. Raises RenderingError when the encoder fails."""
        with self._errors_named("to finish"):
            self._container.mux(self._stream.encode(None))
            self._container.close()
        return self._buffer.getvalue()

    @contextmanager
    def _errors_named(self, what: str) -> Iterator[None]:
        """Whatever PyAV raises inside (FFmpeg's errors are also OSError, ValueError and others) as RenderingError."""
        try:
            yield
        except (self._av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
            raise RenderingError(f"the video encoder refused {what}: {error}") from error


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise RenderingError("videos need the package 'av': install the extra 'sim' (pip install av)") from error
    return av


def _encoder(av: Any) -> str:
    for name in ENCODERS:
        try:
            av.Codec(name, "w")
            return name
        except ValueError:
            continue
    raise RenderingError(f"PyAV has none of the video encoders {', '.join(ENCODERS)}: install a complete 'av' wheel")
