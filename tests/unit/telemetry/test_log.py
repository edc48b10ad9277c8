"""Logs: one pipe for every line of the process, and what never leaves through it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from ordersync_consumer.redaction import words
from worker.telemetry import log as logs
from worker.telemetry.catalog.conformity import conformity
from worker.telemetry.log import HIDDEN, Redaction, Repeats, get_logger, redaction

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjE3NjcyMjU2MDB9.c2lnbmF0dXJl"
Lines = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(autouse=True)
def tolerant(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: these tests say little, and what is not in the catalogue. `test_log_events` is about that."""
    monkeypatch.setattr(conformity, "strict", False)


@pytest.fixture
def lines() -> Lines:
    """Logs at `debug` into memory; the function gives back what was written."""
    stream = io.StringIO()
    logs.configure("auto", "debug", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_off_a_terminal(lines: Lines) -> None:
    """One object a line; time, level and event come first, then the fields in the order they were given."""
    get_logger(account="a").info("poll_done", pages=3, outcome="complete")
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "account", "pages", "outcome"]
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_the_first_line_builds_the_pipeline() -> None:
    """Most commands write none. The first one may be a line of a library, whose secrets are hidden as well."""
    code = """
import logging, sys
from worker.telemetry import log
log.configure("json", "warning")
print("structlog" in sys.modules)
logging.getLogger("redis").warning("at redis://:s3cr3t-word@host")
log.get_logger(account="a").info("poll_done")
log.get_logger(account="a").warning("poll_done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign, own = map(json.loads, done.stderr.splitlines())
    assert done.stdout == "False\n"
    assert (foreign["event"], foreign["message"]) == ("library", f"at redis://:{HIDDEN}@host")
    assert (own["event"], own["level"], own["account"]) == ("poll_done", "warning", "a")


def test_console_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` writes lines for people on a terminal, in colour unless NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    logs.configure("auto", "info", stream)
    get_logger().info("poll_done", pages=3)
    assert "poll_done" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert "\x1b[" in stream.getvalue()

    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    logs.configure("auto", "info", plain)
    get_logger().info("poll_done", pages=3)
    assert "\x1b[" not in plain.getvalue()


POLL: dict[str, Any] = {
    "run_id": "650f50803c4e74ee", "trace_id": "1fabe351e3aa8fc82cfb085892dced00", "account": "default",
    "resource": "orders", "plan": "sweep", "reason": "poll", "outcome": "complete", "covered": "all", "pages": 31,
    "records": 3004, "snapshot": 0, "created": 3, "updated": 6, "deleted": 0, "outside": 0, "silent": 0, "noise": 0,
    "stale": 0, "unreadable": 0, "parked": 0, "erased": 0, "recorded": 0, "follow_ups": 0, "missing": 0, "drift": 0,
    "unchanged": 2995, "requests": 31, "retries": 0, "budget_wait_s": 2.5, "duration_s": 2.711, "freshness_s": 2.71,
}  # fmt: skip


def console_line(event: str, level: str = "info", **fields: Any) -> str:
    """What a terminal without colours shows of a line."""
    stream = io.StringIO()
    logs.configure("console", level, stream)
    get_logger().info(event, **fields)
    return stream.getvalue().rstrip("\n")


def test_a_poll_on_the_console() -> None:
    """Resource, outcome and counts come first; the ids only at debug; JSON has all of it."""
    line = console_line("poll_done", **POLL)
    assert line[9:] == ("[info     ] default/orders complete: 3 created, 6 updated, 2995 unchanged, 2.7 s")
    assert "run_id" not in line
    assert "run_id=650f50803c4e74ee" in console_line("poll_done", "debug", **POLL)
    assert "run_id" not in console_line("contract_found", run_id="x", trace_id="y", resource="orders")
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    get_logger().info("poll_done", **POLL)
    assert json.loads(stream.getvalue()).items() >= POLL.items()


@pytest.mark.parametrize("event", ["poll_done", "poll_failed", "run_suspicious"])
def test_a_poll_fits_100_columns(event: str) -> None:
    """Whatever the counts and the error are, no line of a poll is longer, and none of a value begins a line."""
    counts = {name: 10**7 for name, value in POLL.items() if isinstance(value, int)}
    wide = POLL | counts | {"account": "a" * 64, "resource": "merchant_catalog_audit", "freshness_s": 10.0**6}
    failed: dict[str, Any] = {
        "error_code": "rate_limited", "error": "no\n12:00:00 [error] " + "word " * 90, "repeated": 7
    }  # fmt: skip
    for more in ({}, failed):
        shown = console_line(event, **wide, **more, advice="Look at it. " * 20).splitlines()
        assert max(map(len, shown)) <= 100
        assert "a…/merchant_catalog_audit complete" in shown[0]
        assert all(line.startswith(" " * 21) for line in shown[1:])


def test_the_format_can_be_forced() -> None:
    """`json` on a terminal and `console` off one."""
    for stream, log_format, is_json in ((Terminal(), "json", True), (io.StringIO(), "console", False)):
        logs.configure(log_format, "info", stream)
        get_logger().info("poll_done")
        assert stream.getvalue().startswith("{") is is_json


@pytest.mark.parametrize("name", ["arq.worker", "httpx", "redis", "asyncio", "somebody.else"])
def test_lines_of_others_go_through_the_same_pipe(lines: Lines, name: str) -> None:
    """The event `library`, with what was added under `extra`, and redacted like our own."""
    redaction.add("hunter2-hunter2")
    logging.getLogger(name).warning("told %s", "hunter2-hunter2", extra={"token": JWT, "pages": 3})
    (line,) = lines()
    assert (line["event"], line["message"]) == ("library", f"told {HIDDEN}")
    assert (line["logger"], line["level"]) == (name, "warning")
    assert line["extra"] == {"pages": 3, "token": HIDDEN}


def test_warnings_of_python_go_through_the_pipe() -> None:
    """They would otherwise stand between the JSON lines as text."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # pytest has put its own way of showing them in between
        logs.configure("auto", "info", stream)
        warnings.warn("look at this", UserWarning, stacklevel=1)
    line = json.loads(stream.getvalue())
    assert line["logger"] == "py.warnings"
    assert "look at this" in line["message"]


@pytest.mark.parametrize(("level", "kept"), [("info", 0), ("debug", 2)])
def test_lines_for_every_job_are_kept_at_debug_only(level: str, kept: int) -> None:
    """At `info` arq and httpx say what goes wrong, and not every job and request."""
    stream = io.StringIO()
    logs.configure("json", level, stream)
    logging.getLogger("arq.worker").info("a job")
    logging.getLogger("httpx").info("a request")
    assert len(stream.getvalue().splitlines()) == kept


def test_a_traceback_is_one_field_of_one_line(lines: Lines) -> None:
    """And it is redacted: an exception quotes what it was given."""
    redaction.add("hunter2-hunter2")
    for logger in (get_logger(), logging.getLogger("arq.worker")):
        try:
            int("Bearer abcdefgh, hunter2-hunter2, buyer7@example.com")
        except ValueError:
            logger.exception("failed")
    for line in lines():
        assert "ValueError" in line["exception"]
        for secret in ("abcdefgh", "hunter2", "buyer7"):
            assert secret not in json.dumps(line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sent Bearer abc.def-ghi", f"sent {HIDDEN}"),
        ("authorization: basic dXNlcjpwYXNz", f"authorization: {HIDDEN}"),
        (f"got {JWT}!", f"got {HIDDEN}!"),
        ("redis://worker:s3cret@host:6379/0", f"redis://worker:{HIDDEN}@host:6379/0"),
        ("redis://:s3cret@host:6379/0", f"redis://:{HIDDEN}@host:6379/0"),
        ("GET /x?access_token=abc&page=2", f"GET /x?{HIDDEN}&page=2"),
        ('{"clientSecret":"abc","page":2}', f'{{{HIDDEN},"page":2}}'),
        ('"firstName": "Zoë", "n": 1', f'{HIDDEN}, "n": 1'),
        ("{'line1': '5 Rua Nova', 'n': 1}", f"{{{HIDDEN}, 'n': 1}}"),
        ('{"phone":"+15550100","zip":62701}', f"{{{HIDDEN},{HIDDEN}}}"),
        ('{"shippingEmail":"a\\"b"}', f"{{{HIDDEN}}}"),
        ("mail to buyer7@example.com.", f"mail to {HIDDEN}."),
        ("zoë.muñoz@exämple.com wrote", f"{HIDDEN} wrote"),
        ("orders.search page 3: status 503", "orders.search page 3: status 503"),
        ("worker@ has no address", "worker@ has no address"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_in_any_text(text: str, shown: str) -> None:
    """Tokens, headers, URL passwords, mail addresses, quoted fields of a record; the rest stays readable."""
    assert Redaction().text(text) == shown


@pytest.mark.parametrize(
    "key",
    [
        "client_secret", "password", "accessToken", "Authorization", "cookie", "api_key", "apikey",
        "shippingAddress", "email", "phone", "firstName", "last_name", "fullName", "line1", "zip", "city",
        "street", "postal_code", "data", "record", "body", "cardLast4",
    ],
)  # fmt: skip
def test_a_key_that_names_a_secret_hides_its_value(key: str) -> None:
    """Whatever the value looks like, and however deep it stands."""
    clean = Redaction()(None, "", {"event": "x", key: "plain", "deep": [{key: {"a": 1}}]})
    assert clean == {"event": "x", key: HIDDEN, "deep": [{key: HIDDEN}]}


def test_a_number_that_names_a_person_is_hidden_too() -> None:
    """A phone or a postal code may be a number. A number of tokens is no token."""
    clean = Redaction()(None, "", {"phone": 15550100, "zip": 62701, "tokens": 3, "password": None})
    assert clean == {"phone": HIDDEN, "zip": HIDDEN, "tokens": 3, "password": None}


@pytest.mark.parametrize(
    "key", ["records", "page", "base_url", "resource", "unreadable", "folder", "database"]
)
def test_other_keys_are_left_alone(key: str) -> None:
    """A log without its facts is no use."""
    assert Redaction()(None, "", {key: "plain"}) == {key: "plain"}


def test_known_secrets_are_hidden_wherever_they_stand() -> None:
    """In texts, lists, objects of any class, and as they stand in a URL. None and the empty text are no secrets."""
    redact = Redaction()
    redact.add("p@ss/word", None, "", "ab")

    class Thing:
        def __repr__(self) -> str:
            return "Thing(p@ss/word)"

    clean = redact(
        None, "", {"a": "p@ss/word", "b": ["p%40ss%2Fword"], "c": Thing(), "d": b"p@ss/word", "e": "ab"}
    )
    assert clean == {"a": HIDDEN, "b": [HIDDEN], "c": f"Thing({HIDDEN})", "d": f"b'{HIDDEN}'", "e": "ab"}


def test_a_secret_that_contains_another_is_hidden_as_a_whole() -> None:
    """The shorter one must not be replaced first: the rest of the longer one would be left."""
    for order in (("abcdef", "abcdef-ghijkl"), ("abcdef-ghijkl", "abcdef")):
        redact = Redaction()
        redact.add(*order)
        assert redact.text("x abcdef-ghijkl y") == f"x {HIDDEN} y"


@pytest.mark.parametrize(
    "text", ["x" * 300_000, '"' + "token" * 60_000, "://" + "a" * 300_000, "eyJ" * 100_000]
)
def test_a_long_word_takes_no_long_time(text: str) -> None:
    """Quadratic time would be minutes here, in which not even the watchdog runs; pytest's timeout would end it."""
    assert len(Redaction().text(text)) <= len(text) + len(HIDDEN)


def test_one_long_word_is_kept_without_the_beginning_of_a_secret() -> None:
    """What others wrote is cut before secrets are looked for, and the cut may go through one of them."""
    assert words("x" * 100_000) == "x" * 500
    secret = "Tr0ub4dor" * 1_700
    redaction.add_passing(secret)
    short_once_hidden = "?token=" + "y" * 9_000 + "&"
    assert "Tr0ub4dor" not in words(short_once_hidden + secret, 20_000)
    redaction.forget_all()


def test_repeats_says_it_once_in_a_while_and_counts() -> None:
    """The first time, then once in 60 s with the number of those held back; another key is another matter."""
    repeats = Repeats(60)
    assert [repeats.allow("a", now) for now in (0.0, 1.0, 59.9)] == [True, False, False]
    assert repeats.allow("b", 1.0)
    assert repeats.allow("a", 60.0)
    assert (repeats.held_back("a"), repeats.held_back("a"), repeats.held_back("b")) == (2, 0, 0)


def test_repeats_begins_anew_when_it_is_over() -> None:
    """A failure that comes back after a success is told at once."""
    repeats = Repeats(60)
    repeats.allow("orders x", 0.0)
    repeats.allow("orders x", 1.0)
    repeats.forget_all("orders")
    assert repeats.allow("orders x", 2.0)
    assert repeats.held_back("orders x") == 0


def test_tokens_of_the_past_are_forgotten() -> None:
    """A worker runs for months and sees a token every quarter of an hour: only the last ones are looked for."""
    redaction = Redaction()
    redaction.add("the-secret-of-the-client")
    redaction.add_passing(*(f"opaque-token-{number:04}" for number in range(3000)))
    assert len(redaction._passing) == 1000
    assert redaction.text("x opaque-token-1999 x") == "x opaque-token-1999 x"
    assert "opaque-token-2000" not in redaction.text("x opaque-token-2000 x")
    assert "opaque-token-2999" not in redaction.text("x opaque-token-2999 x")
    assert "the-secret-of-the-client" not in redaction.text("x the-secret-of-the-client x")
