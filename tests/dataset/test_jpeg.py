from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from recordings import CAMERA_SPEC, small_dataset

from robopolicy.dataset.jpeg import JpegCodec

READ_WITH_ZARR_ALONE = """
import sys, zarr
group = zarr.open(zarr.storage.ZipStore(sys.argv[1], mode="r"), mode="r")
print(group["observation/front"].shape, int(group["observation/front"][:].sum()))
"""


def test_plain_zarr_opens_a_recorded_stream_without_importing_robopolicy(tmp_path: Path) -> None:
    episode = small_dataset(tmp_path / "d", [5], CAMERA_SPEC, front="jpeg:90").episodes[0]
    frames = episode.read("observation/front")
    shown = subprocess.run(
        [sys.executable, "-c", READ_WITH_ZARR_ALONE, str(episode.path)], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == f"{frames.shape} {int(frames.sum())}"


def test_zarr_writes_with_the_codec_what_it_reads(tmp_path: Path) -> None:
    frames = np.full((3, 16, 24, 3), 90, dtype=np.uint8) + np.arange(24, dtype=np.uint8)[:, None]
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=frames.shape,
        chunks=(1, *frames.shape[1:]),
        dtype="uint8",
        serializer=JpegCodec(quality=95),
        compressors=None,
    )
    array[:] = frames
    again = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert again.metadata.to_dict()["codecs"] == ({"name": "robopolicy.jpeg", "configuration": {"quality": 95}},)
    assert np.abs(again[:].astype(int) - frames).max() <= 8


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype"),
    [
        ((2, 8, 8, 3), (2, 8, 8, 3), "uint8"),
        ((2, 8, 8, 3), (1, 8, 8, 3), "uint16"),
        ((2, 8, 8, 1), (1, 8, 8, 1), "uint8"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ValueError, match="one RGB frame"):
        zarr.create_array(
            tmp_path / "a.zarr", shape=shape, chunks=chunks, dtype=dtype, serializer=JpegCodec(), compressors=None
        )


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="quality"):
        JpegCodec(quality=quality)
