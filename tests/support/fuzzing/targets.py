"""What reads inputs of others, each as a function that raises nothing but the errors that its callers expect."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ordersync_consumer.envelope import parse
from tests.support.fuzzing.inputs import spoiled
from tests.support.fuzzing.records import record_text
from tests.support.streams import fields_of
from worker.capture.reconcile.progress import ReconcileProgress
from worker.capture.records import audit, decoding, diff, raw_records
from worker.capture.records.compiled import arranger_in_python, arranger_of, reader_of, time_in
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState, decoded
from worker.capture.records.privacy import policy_for
from worker.capture.registry import ORDERS
from worker.capture.state import pauses, run_history
from worker.capture.state.cursor import Cursor
from worker.capture.state.refresh_queue import RefreshKey
from worker.clock import read_time
from worker.config.sections import PrivacySettings
from worker.errors import DataError, SettingsError, UnreadableAnswer
from worker.ordermesh.contract import file as contract_file
from worker.ordermesh.http import reply
from worker.ordermesh.http.auth import LoginRequest, parse_token
from worker.ordermesh.http.decoding import BodyTooLarge, Decoder
from worker.ordermesh.http.pages import split
from worker.redis.stored import number_of, text_of

Target = Callable[[random.Random], object]
"""Makes one input and reads it."""

_ORDER = (
    b'{"id":"65add2700000000000000001","status":"Open","updatedAt":"2026-01-01T00:00:00.0000000Z","total":12.50,'
    rb'"customer":{"firstName":"Ada","email":"ada@example.com"},"items":[{"id":"a","sku":"S-1"}],"note":"\ud83d\ude00"}'
)
_PAGES = (
    b'{"orders":[' + _ORDER + b"," + _ORDER.replace(b"0001", b"0002") + b'],"total":2,"page":0}',
    b"[" + _ORDER + b"]",
    b'{"data":{"orders":[' + _ORDER + b']},"totalCount":"1"}',
    b'{"orders":[],"errors":[{"errorMessage":"no","propertyName":"x"}]}',
)
_LOG = b'{"auditLogs":[{"id":"1","timestamp":"2026-01-01T00:00:00Z","changes":[1]},{"event":"x"}],"total":2}'
_TOKEN = b'{"accessToken":"abc","refreshToken":"def","expiresIn":3600}'
_JOB = b'{"t":null,"f":"poll","a":["default","orders"],"k":{},"et":1}'
_CURSOR = {
    "baseline": "1", "sequence": "12", "due_at": "1767225600.5", "fresh_as_of": "1767225600.0", "buckets": "16",
    "sweep_page": "3", "sweep_unread": "[[1,2]]", "error": "words", "mark": "1767225600000", "interval": "15.0",
}  # fmt: skip
_PROGRESS = {"complete_until": "1", "counts": "{}", "checking": '{"a":[1,2]}', "due_at": "1.5", "behind": "a"}
answered = Counter[str]()
"""How many records were answered in which way."""
REQUESTED = ("updatedAt", "b", "id", "a")
_RUN = {"run_id": "a", "resource": "orders", "duration_s": "0.5", "records": "12", "outcome": "complete"}
_PAUSE = b'{"resource":"orders","reason":"x","by":"ann","at":1767225600.5}'
_OPENAPI: dict[str, Any] = {
    "openapi": "3.0.1",
    "servers": [{"url": "https://api.example.com/base"}],
    "paths": {
        "/order/v1/orders": {
            "get": {
                "operationId": "searchOrders",
                "summary": "Search orders",
                "parameters": [{"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1}}],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/L"}}}}
                },
            }
        },
        "/order/v1/orders/{orderId}": {"get": {"operationId": "getOrder"}},
    },
    "components": {
        "schemas": {"L": {"type": "object", "properties": {"orders": {"type": "array", "items": {}}}}}
    },
}
_DOCUMENTS = (
    json.dumps(_OPENAPI).encode(),
    b'openapi: "3.0.1"\npaths:\n  /order/v1/orders: &a\n    get: {operationId: searchOrders}\n  /x: *a\n',
    (
        b'[lists."orders.search"]\nwrapper = "orders"\npage_parameter = "page"\n[operations."orders.get"]\n'
        b'method = "GET"\n'
    ),
)
_PRIVACY = policy_for("orders", PrivacySettings(policy="minimal"), "default")


def page(random_: random.Random) -> None:
    """A page: split, observed, decoded and decided, with a privacy policy and without."""
    body = spoiled(random_.choice(_PAGES), random_)
    try:
        records = split("orders.search", body, ("orders",), page=0).records
    except UnreadableAnswer:
        return
    for observed in raw_records.observe(ORDERS, records):
        for privacy in (None, _PRIVACY):
            decoded = decoding.decode(ORDERS, observed, b"", frozenset(), privacy)
            diff.decide(decoded, FieldIndex(["id"]), baseline=True)
    raw_records.times_of(ORDERS, records)


def answer(random_: random.Random) -> None:
    """A record, a list or an audit log, as the client reads it."""
    made = spoiled(random_.choice((*_PAGES, _ORDER, _LOG, b'{"order":' + _ORDER + b"}")), random_)
    one = reply.Reply("orders.get", 200, made, "application/json", None)
    with suppress(UnreadableAnswer):
        one.record  # noqa: B018 - it raises
    with suppress(UnreadableAnswer):
        one.errors  # noqa: B018
    with suppress(UnreadableAnswer):
        reply.list_of(one, ("orders",))
    with suppress(UnreadableAnswer):
        log = reply.audit_of(one, ("auditLogs",))
        for privacy in (None, _PRIVACY):
            audit.new_entries("a", made, log.entries, b"", privacy)


def token(random_: random.Random) -> None:
    """The answer to a login."""
    request = LoginRequest("clients.token", {})
    with suppress(UnreadableAnswer):
        parse_token(request, spoiled(_TOKEN, random_), now=1.0, share=0.8, previous=None)


def body(random_: random.Random) -> None:
    """A compressed body, in parts."""
    packed = random_.choice((gzip.compress, zlib.compress))(_PAGES[0])
    data, cut = spoiled(packed, random_), random_.random() < 0.5
    coding = random_.choice(("gzip", "deflate"))
    decoder = Decoder([coding] * random_.choice((1, 1, 2)), 1 << 16, cut=cut)
    middle = random_.randrange(len(data) + 1)
    with suppress(httpx.DecodingError, BodyTooLarge):
        decoder.decode(data[:middle])
        decoder.decode(data[middle:])
        decoder.flush()


def entry(random_: random.Random) -> None:
    """An entry of a stream of events, as consumers parse it."""
    fields = {name.encode(): _bytes(value) for name, value in fields_of(7).items()}
    if random_.random() < 0.3:
        fields[b"dataencoding"] = b"gzip"
        fields[b"data"] = gzip.compress(_ORDER)
    try:
        event = parse(
            spoiled(b"1767225600000-0", random_) if random_.random() < 0.1 else b"1-0", _some(fields, random_)
        )
    except DataError:
        return
    event.attributes  # noqa: B018 - it may raise
    event.json_line(group="g")


def contract(random_: random.Random) -> None:
    """A contract file, and a document of the vendor that is imported."""
    made = spoiled(random_.choice(_DOCUMENTS), random_)
    with tempfile.NamedTemporaryFile(suffix=random_.choice((".json", ".yaml", ".toml"))) as file:
        file.write(made)
        file.flush()
        with suppress(SettingsError):
            contract_file.load(Path(file.name))
        with suppress(SettingsError):
            contract_file.import_file(Path(file.name), add_prefixes=random_.random() < 0.5)


def keys(random_: random.Random) -> None:
    """Hashes, states and members of keys: the cursor, the proof, runs, pauses, states, the refresh queue."""
    with suppress(DataError):
        Cursor.parse(_some(_encoded(_CURSOR), random_), "ordersync:{default}:cursor:orders")
    with suppress(DataError):
        ReconcileProgress.parse(_some(_encoded(_PROGRESS), random_))
    run = run_history.parse(b"1767225600000-0", _some(_encoded(_RUN), random_))
    run.as_json()
    run_history.per_minute([run], 1767225601.0)
    for pause in pauses.parse({b"orders": spoiled(_PAUSE, random_)}).values():
        pause.description  # noqa: B018 - it may raise
    state = RecordState(bytes(8), 1, 2, 300, b"abcd", position=7).pack()
    with suppress(ValueError):
        RecordState.unpack(spoiled(state, random_))
    RefreshKey.parse(text_of(spoiled(b"a/b@c", random_)))
    number_of(spoiled(b"12.5", random_))


def job(random_: random.Random) -> None:
    """The body of a job of arq."""
    from jobs.arq_worker import deserialize  # noqa: PLC0415 - arq is slow to import

    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        deserialize(spoiled(_JOB, random_))


def _time(random_: random.Random) -> None:
    """What the compiled reader of times returns of a text, Python would have returned."""
    at = datetime.fromtimestamp(random_.uniform(-1e9, 1e10), UTC).isoformat(timespec="seconds")[:19]
    digits = "".join(random_.choices("0123456789", k=random_.randrange(10)))
    text = spoiled(f"{at}{random_.choice(['.', '.', ''])}{digits}Z".encode(), random_).decode(
        "utf-8", "replace"
    )
    for each in (text, f"{at}.{digits}7Z"):
        assert time_in(each) == read_time(each), each


def content(random_: random.Random) -> None:
    """The compiled reader: what it returns of a record, Python would have returned; what is invalid, it leaves."""
    _time(random_)
    record = record_text(random_)
    if random_.random() < 0.6:
        record = spoiled(record, random_)
    found = reader_of(REQUESTED)(record)
    try:
        names, hashes, values = decoded(record, REQUESTED)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        answered["invalid"] += 1
        assert found is None, record
        return
    answered["by the compiled reader" if found else "by Python"] += 1
    if found is not None:
        assert (found[0], found[1]) == (names, hashes), record
        assert repr(found[2]) == repr(values), record
        order = random_.choices(range(len(names) + 1), k=random_.randrange(len(names) + 3))
        assert arranger_of(order)(hashes) == arranger_in_python(order)(hashes), (order, record)


TARGETS: dict[str, Target] = {
    "page splitter": page,
    "answers": answer,
    "login": token,
    "compressed bodies": body,
    "stream parser": entry,
    "contract import": contract,
    "keys in Redis": keys,
    "queue of jobs": job,
    "content": content,
}
"""What reads inputs of others, by name."""


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _encoded(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


def _some(fields: dict[bytes, bytes], random_: random.Random) -> dict[bytes, bytes]:
    """Return the fields, some of them spoiled, lost or renamed."""
    result = dict(fields)
    names: Sequence[bytes] = random_.sample(list(fields), random_.choice((1, 1, 2)))
    for name in names:
        match random_.randrange(5):
            case 0:
                del result[name]
            case 1:
                result[spoiled(name, random_)] = result.pop(name)
            case _:
                result[name] = spoiled(result[name], random_)
    return result
