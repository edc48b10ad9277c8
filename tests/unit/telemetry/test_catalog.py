"""The catalogue of log events: closed, complete, and what every line is held against."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import jq
import pytest
from jsonschema_rs import Draft202012Validator, meta
from structlog.contextvars import bound_contextvars

from tests.support.log_lines import LOG_LINE
from tests.support.paths import ROOT
from worker.capture.state.run import Run
from worker.contracts.log_queries import KEYS, Query, load_queries
from worker.contracts.log_schema import log_schema
from worker.telemetry import log as logs
from worker.telemetry.catalog import COMMON, EVENTS, FIELDS, HEAD, LIBRARY, THEMES, UNLISTED, LogLevel
from worker.telemetry.catalog.conformity import NotInCatalogue, conformity
from worker.telemetry.log import HIDDEN, get_logger

QUERIES = ROOT / "docs" / "queries"
SOURCES = [
    path for folder in ("consumer", "worker", "jobs") for path in sorted((ROOT / folder).rglob("*.py"))
]
LEVELS = {level.value: level.value for level in LogLevel} | {"exception": "error"}
WAITING: dict[str, Any] = {"url": "redis://x", "waited_s": 1.5, "error": "refused"}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call of a logger in the code: where, its method, and itself."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                logger = ast.unparse(node.func.value)
                if node.func.attr in LEVELS and re.search(r"\blog\b|_log\b|logger", logger):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.attr, node


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is written as in production, where nothing fails because of the catalogue."""
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    monkeypatch.setattr(conformity, "strict", False)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


# The table


def test_names_are_unique() -> None:
    """An event stands in one place, and a field as well."""
    assert len(EVENTS) == sum(len(events) for events in THEMES.values())
    assert len(FIELDS) == len({field.name for field in FIELDS.values()})
    assert all(re.fullmatch(r"[a-z][a-z_]+", name) for name in [*EVENTS, *FIELDS])


def test_every_field_is_known_and_used() -> None:
    """An event names no field that is not described, and none is described that no event has."""
    used = {name for event in EVENTS.values() for name in (*event.fields, *event.optional)}
    assert used - FIELDS.keys() == set()
    assert FIELDS.keys() - used - {field.name for field in (*HEAD, *COMMON)} == set()


def test_no_field_is_hidden_by_its_name() -> None:
    """The redaction hides what a name betrays as a secret or a person's: no field may have such a name."""
    for name in FIELDS:
        assert logs.Redaction()(None, "", {name: "said"}) == {name: "said"}


def test_what_goes_wrong_says_what_to_do() -> None:
    """Every warning and every error has a sentence for whoever reads it at night."""
    grave = {LogLevel.WARNING, LogLevel.ERROR, LogLevel.CRITICAL}
    assert [event.name for event in EVENTS.values() if event.level in grave and not event.action] == []


def test_the_code_says_what_the_table_says() -> None:
    """Each call of a logger names an event of the table, at its level, and no field that it has not."""
    common = {field.name for field in COMMON}
    found = list(calls())
    assert len(found) > 60
    for where, method, call in found:
        name = call.args[0]
        if not isinstance(name, ast.Constant):
            continue
        assert name.value in EVENTS, where
        event = EVENTS[name.value]
        assert event.level == LEVELS[method], where
        given = {keyword.arg for keyword in call.keywords if keyword.arg}
        assert given - common - set(event.fields) - set(event.optional) == set(), where


def test_every_event_is_said_somewhere() -> None:
    """The table holds nothing that the code does not say any more."""
    catalogue = [path for path in SOURCES if "catalog" not in path.parts]
    code = "\n".join(path.read_text(encoding="utf-8") for path in catalogue)
    assert [name for name in EVENTS if f'"{name}"' not in code and name not in {LIBRARY, UNLISTED}] == []


@pytest.mark.parametrize("name", ["poll_done", "poll_failed", "poll_skipped"])
def test_the_summary_of_a_run_is_all_in_the_table(name: str) -> None:
    """What a run counts is told by the line of its poll, and the other way round."""
    run = Run("0" * 16, "a", "orders", "sweep", "poll", 0.0, 0.0)
    event = EVENTS[name]
    told = set(event.fields) - {"repeated", "error_code", "error"}
    assert told == run.summary(1.0).keys() - {"account"}
    run.fail("x", ValueError("y"))
    run.freshness = 1.0
    assert run.summary(1.0).keys() - {"account"} <= {*event.fields, *event.optional}


# The schema


def test_the_schema_is_a_schema() -> None:
    """It is valid by the rules of its own dialect, and each event is one branch of it."""
    meta.validate(log_schema())
    assert len(log_schema()["oneOf"]) == len(EVENTS)


@pytest.mark.parametrize(
    "odd",
    [
        {"event": "something_new"},
        {"level": "info"},
        {"waited_s": "1.5"},
        {"waited_s": None},
        {"url": 7},
        {"pages": 3},
        {"run_id": "x"},
        {"timestamp": "yesterday"},
    ],
)
def test_an_odd_line_does_not_fit(odd: dict[str, Any]) -> None:
    """Another event, level, kind or field than the table's is refused; what is missing as well."""
    line = {
        "timestamp": "2026-03-02T10:41:07.5Z",
        "level": "warning",
        "event": "waiting_for_redis",
        **WAITING,
    }
    assert LOG_LINE.is_valid(line)
    assert LOG_LINE.is_valid(line | {"account": "a", "run_id": "0" * 16, "trace_id": "0" * 32})
    assert not LOG_LINE.is_valid(line | odd)
    (name,) = odd
    if name in line:
        assert not LOG_LINE.is_valid({key: value for key, value in line.items() if key != name})


# Strict, as in tests


@pytest.mark.parametrize(
    ("method", "event", "fields", "said"),
    [
        ("info", "something_new", {}, "there is no log event 'something_new'"),
        ("warning", "waiting_for_redis", WAITING | {"pages": 3}, "has no field 'pages'"),
        ("warning", "waiting_for_redis", WAITING | {"waited_s": "long"}, "waited_s must be a number"),
        ("warning", "waiting_for_redis", {"url": "redis://x"}, "lacks its field 'waited_s'"),
        ("info", "waiting_for_redis", WAITING, "is of level warning, and was written as info"),
        ("error", "worker_failed", {"advice": "x"}, "lacks its field 'exception'"),
    ],
)
def test_what_is_not_in_the_table_fails_a_test(
    method: str, event: str, fields: dict[str, Any], said: str
) -> None:
    """Whoever adds an event, or a field, is told where it goes; also where the error is swallowed."""
    with pytest.raises(NotInCatalogue, match=re.escape(said)):
        getattr(get_logger(), method)(event, **fields)
    assert len(conformity.found) >= 1
    conformity.found.clear()  # the fixture of every test fails for what it finds there


def test_a_trace_is_the_field_exception() -> None:
    """`log.exception` hands over the trace in Python's own way."""
    try:
        int("x")
    except ValueError:
        get_logger().exception("worker_failed", advice="x")
    assert conformity.found == []


# Tolerant, as in production


def test_no_line_is_lost_and_every_line_fits(lines: Any) -> None:
    """An event that is not in the table goes out as `unlisted`, an unknown field and a library's line under `extra`."""
    with bound_contextvars(run_id="0" * 16, account="a"):
        get_logger(resource="orders").error("something_new", pages=3, what=[1])
        get_logger().warning("waiting_for_redis", **WAITING, pages=3)
        logging.getLogger("arq.worker").warning("%d jobs", 3, extra={"queue": "q"})
        logging.getLogger("odd").log(25, "a level of its own", stack_info=True)
        try:
            int("x")
        except ValueError:
            logging.getLogger("asyncio").exception("a task")
            get_logger().exception("another_new")
    unlisted, waiting, library, odd, task, another = lines()
    for line in lines():
        LOG_LINE.validate(line)
        assert line["account"] == "a"
        assert line["run_id"] == "0" * 16
    assert (unlisted["event"], unlisted["name"], unlisted["level"]) == (
        "unlisted",
        "something_new",
        "error",
    )
    assert (unlisted["resource"], unlisted["extra"]) == (
        "orders",
        {"pages": 3, "what": ["1"]} | {"what": [1]},
    )
    assert (waiting["event"], waiting["extra"]) == ("waiting_for_redis", {"pages": 3})
    assert (library["event"], library["logger"], library["message"]) == ("library", "arq.worker", "3 jobs")
    assert library["extra"] == {"queue": "q"}
    assert (odd["level"], "stack" in odd) == ("info", True)
    assert "ValueError" in task["exception"]
    assert "ValueError" in another["exception"]


def test_what_was_not_foreseen_is_redacted_too(lines: Any) -> None:
    """What goes out under `extra` has passed the redaction as well."""
    get_logger().info("something_new", password="hunter2", deeper={"email": "a@b.example"})
    (line,) = lines()
    assert line["extra"] == {"password": HIDDEN, "deeper": {"email": HIDDEN}}


# The questions


def names_in(query: str) -> set[str]:
    """The events that a query asks for."""
    chosen = re.findall(r'event\s*(?:==|=~|=|\| IN)\s*("[^"]+"|\([^)]*\))', query)
    return {name for text in chosen for name in re.findall(r"[a-z]+_[a-z_]+", _spread(text))}


def _spread(text: str) -> str:
    """`poll_(done|failed)` as its two names."""
    return re.sub(
        r"(\w+_)\(([a-z|]+)\)", lambda found: " ".join(found[1] + end for end in found[2].split("|")), text
    )


def test_there_are_ten_questions() -> None:
    """As many as the page promises, each in jq and in LogQL, with words that say what it answers."""
    assert len(KEYS) == 10
    assert {path.name for path in QUERIES.iterdir()} == {
        f"{k}.{end}" for k in KEYS for end in ("jq", "logql")
    }
    for query in load_queries(QUERIES):
        assert query.question.endswith("?")
        assert query.about.endswith(".")


@pytest.mark.parametrize("query", load_queries(QUERIES), ids=lambda query: query.key)
def test_queries_name_what_there_is(query: Query) -> None:
    """Both languages ask for the same events, and for fields that those have."""
    assert names_in(query.jq) == names_in(query.logql)
    assert names_in(query.jq) <= EVENTS.keys()
    known = FIELDS.keys() | {"app"}
    assert set(re.findall(r"(?<![\w\])])\.([a-z][a-z_]+)", query.jq)) <= known
    assert set(re.findall(r"([a-z_]+)\s*(?:=~|=)\s*\"", query.logql)) <= known
    assert set(re.findall(r"unwrap ([a-z_]+)", query.logql)) <= known
    if names_in(query.jq):
        assert jq.compile(query.jq).input_value(None).all() == []


def test_the_schema_tells_kinds_apart() -> None:
    """The validator of the tests looks at formats too, or a time could be any text."""
    validator = Draft202012Validator(log_schema(), validate_formats=True)
    line = {"timestamp": "now", "level": "info", "event": "stopped"}
    assert not validator.is_valid(line)
    assert validator.is_valid(line | {"timestamp": "2026-03-02T10:41:07.513Z"})
