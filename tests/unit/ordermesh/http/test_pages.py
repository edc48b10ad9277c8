"""Pages are split into raw records, whatever the list is called, and nothing of a record leaks."""

import msgspec
import pytest

from worker.errors import ResponseTooLarge, UnreadableAnswer
from worker.ordermesh.http.pages import MAX_FIELDS, MAX_RECORDS, MAX_VALUES, TOTAL_KEYS, Page, split

WRAPPERS = ("orders", "items")
RECORDS = [
    b'{"id": "1", "x":1.50, "name":"\\u00e9\xc3\xa9" }',
    b'{ "id":"2","big":12345678901234567890123, "e":1E2}',
    b"null",
]
LIST = b"[" + b" ,\n".join(RECORDS) + b"]"


def page(body: bytes) -> Page:
    return split("orders.search", body, WRAPPERS, page=3)


def raw(found: Page) -> list[bytes]:
    return [bytes(record) for record in found.records]


@pytest.mark.parametrize(
    "body",
    [
        b'{"orders":' + LIST + b',"page":1}',
        b' \n{ "page":1, "orders" : ' + LIST + b"}",
        LIST,
        b"\n " + LIST,
        b'{"items":' + LIST + b"}",
        b'{"page":{"n":1},"hits":' + LIST + b"}",
        b'{"errors":[],"hits":' + LIST + b"}",
        b'{"data":{"orders":' + LIST + b'},"errors":[]}',
    ],
    ids=[
        "wrapper",
        "wrapper, spaced",
        "bare",
        "bare, spaced",
        "second wrapper",
        "only list",
        "errors",
        "nested",
    ],
)
def test_records_are_found_and_left_as_served(body: bytes) -> None:
    """The list is found under any likely name, and its records are kept byte for byte, in their order."""
    assert raw(page(body)) == RECORDS


def test_null_is_an_empty_list() -> None:
    """A list that is null holds nothing, and nothing that stands beside it is taken for records."""
    assert page(b'{"orders":null,"facets":[{"id":"f1"}],"total":0}').records == []


@pytest.mark.parametrize("body", [b"", b"  \r\n"])
def test_an_empty_body_is_an_empty_page(body: bytes) -> None:
    """As of the status 204, which some gateways answer for an empty list or behind the last page."""
    assert page(body) == Page([], None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"orders":[],"errors":[{"errorMessage":"Search index unavailable"}]}', "Search index unavailable"),
        (b'{"success":false,"orders":[]}', "without words"),
        (b'{"success":false,"orders":null,"message":"try later"}', "try later"),
        (b'{"isSuccess":false,"data":{"orders":[]}}', "without words"),
        (b'{"data":{"success":false,"orders":[],"message":"try later"}}', "try later"),
        (b'{"status":"error","message":"no index","items":[],"total":0}', "no index"),
        (b'{"error":{"code":9,"message":"no index"},"orders":[]}', "no index"),
        (b'{"errors":["no index"],"orders":[]}', "no index"),
    ],
)
def test_an_error_with_a_good_status_is_no_page(body: bytes, message: str) -> None:
    """A list without records beside an error says nothing of what there is."""
    with pytest.raises(UnreadableAnswer, match=f"no records and reports an error: {message}"):
        page(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"orders":[],"errors":[],"error":null}',
        b'{"orders":[],"errors":{},"error":"","success":true}',
        b'{"orders":[],"status":"ok","success":null}',
        b'{"orders":[],"warnings":["slow"]}',
        b"[]",
    ],
)
def test_an_empty_page_without_an_error(body: bytes) -> None:
    """Fields for errors that hold none do not make an empty page doubtful."""
    assert page(body).records == []


def test_records_beside_an_error_are_read() -> None:
    """What is shown is read; a warning beside it is not a reason to hold it back."""
    assert raw(page(b'{"orders":[1],"errors":[{"errorMessage":"one shard is slow"}]}')) == [b"1"]


def test_the_total_of_a_nested_list() -> None:
    """It stands beside the list or outside."""
    assert page(b'{"data":{"orders":[{"id":"1"}],"total":7}}').total == 7
    assert page(b'{"data":{"orders":[{"id":"1"}]},"total":7}').total == 7


def test_a_record_stands_alone() -> None:
    """A record is kept for long: it can be read by itself, and a lone one too."""
    (record,) = page(b'{"orders":[ {"id":"1"} ]}').records
    assert bytes(record.copy()) == b'{"id":"1"}'
    assert msgspec.json.decode(record) == {"id": "1"}


def test_the_expected_name_wins() -> None:
    """Of two lists the one of an expected name is taken, in the order of the names."""
    assert raw(page(b'{"warnings":[1],"orders":[2]}')) == [b"2"]
    assert raw(page(b'{"warnings":[1],"items":[2]}')) == [b"2"]
    assert raw(page(b'{"items":[1],"orders":[2]}')) == [b"2"]


def test_two_lists_without_an_expected_name() -> None:
    """Where it cannot be told which list is meant, nothing is guessed; the message names the fields."""
    with pytest.raises(UnreadableAnswer, match=r"no list under orders or items.*bar, foo") as caught:
        page(b'{"foo":[],"bar":[]}')
    assert caught.value.page == 3


def test_empty_lists() -> None:
    """An empty page is a page."""
    assert page(b'{"orders":[],"total":0}') == Page([], 0)
    assert page(b"[]") == Page([], None)


@pytest.mark.parametrize("name", TOTAL_KEYS)
@pytest.mark.parametrize("value", [b"7", b'"7"', b"7.0"])
def test_totals(name: str, value: bytes) -> None:
    """The number of all records is read under each likely name, also when it is written as text."""
    assert page(b'{"' + name.encode() + b'":' + value + b',"orders":[1]}').total == 7


@pytest.mark.parametrize("value", [b"null", b'"many"', b"{}", b"true"])
def test_unusable_totals(value: bytes) -> None:
    """A total that is no number is as good as none; the records are read all the same."""
    found = page(b'{"total":' + value + b',"orders":[1]}')
    assert (raw(found), found.total) == ([b"1"], None)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>joe@example.com</html>",
        b'"joe@example.com"',
        b"12",
        b"null",
        b"{}",
        b'{"orders":{"joe@example.com":1}}',
        b'{"status":"error","errors":["joe@example.com"]}',
        b'{"message":"no","errors":[]}',
        b'{"facets":[{"id":"joe"}]}',
        b'{"joe@example.com":{"a":1},"Joe Bloggs":2}',
        b'{"orders":[{"email":"joe@example.com"}',
        b'{"orders":[{"email":"joe@example.com"}]',
        b'[{"email":"joe@example.com"}{}]',
        b'{"data":' * 10 + b'{"orders":[{"email":"joe@example.com"}]}' + b"}" * 10,
        b'{"orders":[{"email":"joe@example.com"}]} joe@example.com',
        b'{"' + b"joe" * 1000 + b'":1}',
        b'{"orders":' + b"[" * 200_000,
        b"[" * 200_000,
        b'{"joe":' * 200_000,
    ],
)
def test_what_is_no_page(body: bytes) -> None:
    """No JSON, no list, cut short or nested without end: one kind of error, which tells no content."""
    with pytest.raises(UnreadableAnswer) as caught:
        page(body)
    text = str(caught.value)
    assert "orders.search page 3" in text
    assert "joe" not in text.lower()
    assert len(text) < 300


def test_a_page_of_very_many_values() -> None:
    """Each of them would take the memory of an object; the page is refused before it is split."""
    body = b'{"orders":[' + b"1," * (MAX_VALUES + 1) + b"1]}"
    with pytest.raises(ResponseTooLarge, match=f"orders.search page 3: .* more than {MAX_VALUES} values"):
        page(body)


@pytest.mark.parametrize("around", [(b'{"orders":[', b"]}"), (b"[", b"]"), (b'{"data":{"x":[', b"]}}")])
def test_a_page_of_very_many_records(around: tuple[bytes, bytes]) -> None:
    """However many were requested, a page with more than the settings permit is refused; the setting is named."""
    body = around[0] + b",".join([b"{}"] * 11) + around[1]
    assert len(split("orders.search", body, WRAPPERS, page=3, most=11).records) == 11
    said = r"orders.search page 3: .* more than 10 records\. .* raise ORDERSYNC_API__MAX_PAGE_RECORDS"
    with pytest.raises(ResponseTooLarge, match=said):
        split("orders.search", body, WRAPPERS, page=3, most=10)
    with pytest.raises(ResponseTooLarge, match=f"more than {MAX_RECORDS} records$"):
        page(around[0] + b",".join([b"1"] * (MAX_RECORDS + 1)) + around[1])


@pytest.mark.parametrize("fault", [b"", b"\x01"])
def test_a_page_of_very_many_fields(fault: bytes) -> None:
    """They are not searched for a list one by one."""
    fields = b",".join(b'"k%d":"%b"' % (number, fault) for number in range(MAX_FIELDS + 1))
    with pytest.raises(ResponseTooLarge, match=f"more than {MAX_FIELDS} fields"):
        page(b"{" + fields + b"}")
