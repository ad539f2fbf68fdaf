"""Videos decode to what was put in."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from robopolicy.errors import RenderingError
from robopolicy.evaluation import video
from robopolicy.evaluation.video import VideoWriter

av = pytest.importorskip("av")


def frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """A bright square that walks to the right on a soft ramp."""
    ramp = np.linspace(40, 120, width, dtype=np.uint8)
    made = []
    for index in range(count):
        frame = np.repeat(np.tile(ramp, (height, 1))[..., None], 3, axis=2)
        frame[8:24, 4 + 3 * index : 20 + 3 * index] = 240
        made.append(frame)
    return made


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95)])
def test_frames_come_back_in_order(height: int, width: int) -> None:
    writer = VideoWriter(width, height, 12.5)
    sent = frames(20, height, width)
    for frame in sent:
        writer.add(frame)
    with av.open(io.BytesIO(writer.finish())) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(12.5)
        received = [frame.to_ndarray(format="rgb24")[:height, :width] for frame in container.decode(stream)]
    assert len(received) == len(sent)
    for before, after in zip(sent, received, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 6


def test_another_encoder_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "ENCODERS", ("no_such_encoder", "libvpx-vp9"))
    writer = VideoWriter(64, 64, 10)
    for frame in frames(5, 64, 64):
        writer.add(frame)
    with av.open(io.BytesIO(writer.finish())) as container:
        assert container.streams.video[0].codec_context.name == "vp9"


def test_no_encoder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "ENCODERS", ("no_such_encoder",))
    with pytest.raises(RenderingError, match="none of the video encoders no_such_encoder"):
        VideoWriter(64, 64, 10)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RenderingError, match="need the package 'av'"):
        VideoWriter(64, 64, 10)


def test_an_encoder_that_cannot_finish_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = VideoWriter(64, 64, 10)
    writer.add(frames(1, 64, 64)[0])

    def fail(packets: object) -> None:
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_container", SimpleNamespace(mux=fail))
    with pytest.raises(RenderingError, match="refused a frame of .*No space left"):
        writer.add(frames(1, 64, 64)[0])
    with pytest.raises(RenderingError, match="refused to finish: .*No space left"):
        writer.finish()


@pytest.mark.parametrize("frame", [np.zeros((64, 32, 3), np.uint8), np.zeros((64, 64, 3), np.float32)])
def test_a_wrong_frame_is_refused(frame: NDArray[np.uint8]) -> None:
    with pytest.raises(RenderingError, match=r"expected uint8 \(64, 64, 3\)"):
        VideoWriter(64, 64, 10).add(frame)
