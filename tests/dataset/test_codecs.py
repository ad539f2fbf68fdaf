from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robopolicy.dataset.codecs import Blosc, Jpeg, codec_from_documents, codec_of
from robopolicy.errors import DatasetError
from robopolicy.spec import ArraySpec

RGB = ArraySpec((16, 16, 3), "uint8")
DTYPES = st.sampled_from(["float32", "float64", "int64", "int32", "uint16", "uint8", "bool"])


@given(hnp.arrays(dtype=DTYPES, shape=hnp.array_shapes(max_dims=4, max_side=9)), st.integers(0, 9))
def test_blosc_gives_back_every_bit(chunk: np.ndarray, level: int) -> None:
    out = np.empty_like(chunk)
    Blosc(level).decode_into(np.frombuffer(Blosc(level).encode(chunk), dtype=np.uint8), out)
    assert out.tobytes() == chunk.tobytes()


def test_blosc_encodes_non_contiguous_chunks() -> None:
    chunk = np.arange(24.0).reshape(4, 6).T
    out = np.empty_like(chunk, order="C")
    Blosc().decode_into(np.frombuffer(Blosc().encode(chunk), dtype=np.uint8), out)
    np.testing.assert_array_equal(out, chunk)


def test_jpeg_keeps_the_order_of_the_channels() -> None:
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    frame[..., 0], frame[..., 1] = 200, 40
    out = np.empty_like(frame)
    Jpeg(95).decode_into(np.frombuffer(Jpeg(95).encode(frame), dtype=np.uint8), out)
    assert np.abs(out.astype(int) - frame).max() <= 4


@pytest.mark.parametrize("codec", [Blosc(), Jpeg()])
def test_bytes_that_are_no_chunk_are_an_error(codec: Blosc | Jpeg) -> None:
    for data in (b"", b"nonsense", bytes(100), codec.encode(np.zeros((4, 4, 3), dtype=np.uint8))):
        with pytest.raises(ValueError, match="chunk"):
            codec.decode_into(np.frombuffer(data, dtype=np.uint8), np.empty((8, 8, 3), dtype=np.uint8))


def test_names_and_documents_mean_the_same_codec() -> None:
    for name, codec in (("blosc", Blosc()), ("jpeg:77", Jpeg(77))):
        assert codec_of(name, "front", RGB) == codec
        assert codec_from_documents(codec.documents(np.dtype("uint8"))) == codec


@pytest.mark.parametrize("name", ["png", "jpeg", "jpeg:0", "jpeg:101", "jpeg:x", ""])
def test_an_unknown_codec_names_the_stream(name: str) -> None:
    with pytest.raises(DatasetError, match="stream 'front' has codec"):
        codec_of(name, "front", RGB)


@pytest.mark.parametrize("spec", [ArraySpec((16, 16, 1), "uint16"), ArraySpec((16, 16, 1), "uint8")])
def test_depth_and_grey_refuse_the_lossy_codec(spec: ArraySpec) -> None:
    assert codec_of("blosc", "depth", spec) == Blosc()
    with pytest.raises(DatasetError, match="use 'blosc'"):
        codec_of("jpeg:90", "depth", spec)


def test_a_foreign_codec_chain_is_an_error() -> None:
    with pytest.raises(ValueError, match="gzip"):
        codec_from_documents([{"name": "bytes"}, {"name": "gzip"}])
