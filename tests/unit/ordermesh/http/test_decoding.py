"""Bodies are decompressed to a limit, whatever they were compressed with and however they arrive."""

import gzip
import zlib
from collections.abc import Callable

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.ordermesh.http.decoding import BodyTooLarge, Decoder

MEGABYTES_64 = 64 << 20


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[list[str], Callable[[bytes], bytes]]] = {
    "gzip": (["gzip"], gzip.compress),
    "x-gzip": (["x-gzip"], gzip.compress),
    "deflate": (["deflate"], zlib.compress),
    "deflate without zlib's format": (["deflate"], bare),
    "gzip of deflate": (["deflate", "gzip"], lambda data: gzip.compress(zlib.compress(data))),
    "gzip in two members": (["gzip"], lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])),
    "identity": (["identity"], bytes),
    "none": ([], bytes),
}


def unpacked(codings: list[str], parts: list[bytes], limit: int = 1 << 20, *, cut: bool = False) -> bytes:
    decoder = Decoder(codings, limit, cut=cut)
    return b"".join([decoder.decode(part) for part in parts]) + decoder.flush()


@pytest.mark.parametrize("packer", PACKERS)
@example(data=b"x", cuts=[1])
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=4))
def test_what_was_packed_is_unpacked(packer: str, data: bytes, cuts: list[int]) -> None:
    """In one piece or in several."""
    codings, pack = PACKERS[packer]
    packed, edges = pack(data), sorted(cuts)
    parts = [packed[one:other] for one, other in zip([0, *edges], [*edges, None], strict=True)]
    assert unpacked(codings, parts) == data


@pytest.mark.parametrize("packer", [name for name in PACKERS if name not in {"identity", "none"}])
def test_a_bomb_is_not_unpacked(packer: str) -> None:
    """64 MB of zeros take 64 kB: the decoder stops at the limit."""
    codings, pack = PACKERS[packer]
    with pytest.raises(BodyTooLarge) as caught:
        unpacked(codings, [pack(bytes(MEGABYTES_64))])
    assert caught.value.limit == f"{1 << 20} bytes"


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_limit_is_exact(size: int) -> None:
    """A body of the permitted length is read."""
    if size > 1 << 20:
        with pytest.raises(BodyTooLarge):
            unpacked(["gzip"], [gzip.compress(bytes(size))])
    else:
        assert len(unpacked(["gzip"], [gzip.compress(bytes(size))])) == size


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_broken_and_cut_bodies(coding: str) -> None:
    """A page that ends early must not be taken for a short one."""
    packed = PACKERS[coding][1](b"x" * 5000 + b"y")
    for broken in (packed[:-5], b"\x1f\x8b not compressed", packed[:20]):
        with pytest.raises(httpx.DecodingError):
            unpacked([coding], [broken])


def test_the_body_of_an_error_is_cut() -> None:
    """Its first bytes are enough for a message, and it must not hide the status."""
    assert unpacked(["gzip"], [gzip.compress(bytes(MEGABYTES_64))], cut=True) == b""
    assert unpacked(["gzip"], [b"no gzip"], cut=True) == b""
    assert unpacked(["gzip"], [gzip.compress(b"no")], cut=True) == b"no"


def test_an_unknown_coding_is_passed_on() -> None:
    """The caller names it."""
    assert unpacked(["gzip", "br"], [b"packed"]) == b"packed"
