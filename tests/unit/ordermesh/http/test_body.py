"""Bodies that a gateway has encoded in its own way are read; what cannot be is named."""

import httpx
import pytest

from worker.errors import UnreadableAnswer
from worker.ordermesh.http.body import body_of

TEXT = '{"orders":[{"id":"1","name":"Zo\u00eb \u20ac"}]}'
MARK = b"\xef\xbb\xbf"


def body(content: bytes, media_type: str | None = "application/json", **headers: str) -> bytes:
    if media_type is not None:
        headers["content-type"] = media_type
    return body_of("orders.search", httpx.Response(200, headers=headers, content=content))


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "text/json; charset=utf-8", "application/json; charset=", "text/plain", None],
)
def test_a_byte_order_mark_is_removed(media_type: str | None) -> None:
    """JSON must not begin with one, and some servers write it."""
    assert body(MARK + TEXT.encode(), media_type) == TEXT.encode()


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32", "UTF-8", "utf8"])
def test_other_charsets_become_utf8(charset: str) -> None:
    """Whatever a text is in, the records that are published are UTF-8."""
    assert body(TEXT.encode(charset), f"application/json; charset={charset}") == TEXT.encode()


def test_latin_1_becomes_utf8() -> None:
    """A text in ISO-8859-1 is converted."""
    text = TEXT.replace("\u20ac", "")
    assert body(text.encode("latin-1"), "application/json;charset=ISO-8859-1") == text.encode()


def test_utf8_with_a_wrong_name_stays() -> None:
    """Servers call UTF-8 ISO-8859-1: converted once more, every umlaut would be lost."""
    assert body(TEXT.encode(), "application/json;charset=ISO-8859-1") == TEXT.encode()


def test_what_is_no_json_stays() -> None:
    """A file is passed on byte for byte, whatever its header says."""
    assert body(b"\xff\xfe\x00", "application/pdf; charset=utf-16") == b"\xff\xfe\x00"


@pytest.mark.parametrize("charset", ["klingon", "utf-32", "us-ascii-but-not", "rot13", "hex"])
def test_a_charset_that_is_not_understood_is_named(charset: str) -> None:
    """Neither unknown nor wrong charsets end in a traceback."""
    with pytest.raises(UnreadableAnswer, match=f"orders.search: .*charset.*{charset}"):
        body(b'{"name":"Zo\xeb"}', f"application/json; charset={charset}")


@pytest.mark.parametrize(
    ("coding", "named"), [("br", "br"), ("gzip, zstd", "zstd"), ("Compress", "compress")]
)
def test_a_coding_that_is_not_understood_is_named(coding: str, named: str) -> None:
    """A proxy may compress although it was not asked to."""
    response = httpx.Response(200, headers={"content-encoding": coding})
    with pytest.raises(UnreadableAnswer, match=f"orders.search: .*content encoding {named}"):
        body_of("orders.search", response)
