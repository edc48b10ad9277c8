"""Two pages on the log: the catalogue of its events, and the queries that answer operators' questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.contracts.log_queries import Query, load_queries
from worker.contracts.markdown import page, table
from worker.telemetry.catalog import COMMON, FIELDS, FREE_LEVEL, HEAD, THEMES, LogEvent, LogField

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_EVENTS = """\
The worker writes one JSON object per line to standard error. When standard error is a terminal, it writes lines for
people instead; `ORDERSYNC_LOG__FORMAT=json` selects JSON there too. `ORDERSYNC_LOG__LEVEL` selects the lowest level: at
`info` the worker writes one line for each poll, at `debug` also one for each page and for each retried request.
Repetitions are suppressed, and the next line has their number (`repeated`, `not_told`, `refusals`).

The log is an interface. This page lists every event, the fields are typed, and a field has the same meaning in every
event; `deploy/log-events.schema.json` is the JSON Schema. A new version may add events and fields: ignore those that
you do not know. Lines of libraries (arq, httpx, redis-py) have the event `library` and their text in `message`. No line
contains a secret or a field of a record.

`trace_id` and `run_id` connect a tick with the events that it led to. The tick creates the trace and passes it to the
job and the run; every line written on the way has both ids, and so has the run record. With
`ORDERSYNC_EVENTS__TRACEPARENT=true` each event has them in `traceparent` (`00-TRACE_ID-RUN_ID-FLAGS`, W3C).

[Log queries](../operate/log-queries.md) has a query for each of ten questions.
"""
_QUERIES = """\
Ten questions that operators ask of the [log](../reference/log-events.md), each with a query for jq and one for
Grafana Loki (LogQL), which are files in `docs/queries`. The jq queries read a file, or the output of
`journalctl -u ordersync -o cat` or `docker logs`; they ignore text that is not a line of the log:

```console
$ journalctl -u ordersync -o cat --since -1h | jq -nRr -f docs/queries/failing.jq
```

In the LogQL queries, replace `{app="ordersync"}` by the selector of your stream. A test runs the jq queries on the
log of a worker in trouble. The LogQL queries have not been run.
"""
_BRACKETS = """\
Fields in brackets are present only where they apply. Every line also has the [common fields](#fields).
"""


def events_page() -> str:
    """Return the catalogue of events and fields."""
    others = FIELDS.keys() - {field.name for field in (*HEAD, *COMMON)}
    return page(
        "Log events",
        _EVENTS,
        f"## Events\n\n{_BRACKETS}",
        *(f"### {theme}\n\n" + "\n\n".join(map(_event, events)) for theme, events in THEMES.items()),
        "## Fields\n\nIn every line:",
        _fields(HEAD),
        "In any event, where they apply:",
        _fields(COMMON),
        "In the events that list them:",
        _fields(FIELDS[name] for name in sorted(others)),
    )


def queries_page(folder: Path) -> str:
    """Return the questions with their queries, which are files in a folder."""
    queries = load_queries(folder)
    return page(
        "Log queries", _QUERIES, *(_question(number, query) for number, query in enumerate(queries, 1))
    )


def _question(number: int, query: Query) -> str:
    return (
        f"## {number}. {query.question}\n\n{query.about}\n\n"
        f"```jq\n{query.jq}\n```\n\n```logql\n{query.logql}\n```"
    )


def _event(event: LogEvent) -> str:
    level = "any level" if event.name in FREE_LEVEL else event.level.value
    fields = [f"`{name}`" for name in event.fields] + [f"[`{name}`]" for name in event.optional]
    text = f"**`{event.name}`** ({level}): {event.meaning}"
    text += f" *{event.action}*" if event.action else ""
    return f"{text}\n{', '.join(fields)}" if fields else text


def _fields(fields: Iterable[LogField]) -> str:
    rows = [(f"`{field.name}`", field.kind.value, field.meaning) for field in fields]
    return table(("field", "kind", "meaning"), rows)
