"""`docs/logs.md`: the catalogue of log events for people, and the queries that answer their questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.contracts.log_queries import Query, load_queries
from worker.telemetry.catalog import COMMON, FIELDS, FREE_LEVEL, HEAD, THEMES, LogEvent, LogField

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_BEGIN = """\
# The log

<!-- Written by `python -m worker.contracts deploy`; do not change it by hand. -->

The worker writes one JSON object a line to standard error; on a terminal lines for people
(`ORDERSYNC_LOG__FORMAT=json` for JSON there too). `ORDERSYNC_LOG__LEVEL` says how much: at `info` one line for each
poll, at `debug` each page and each request that is tried again. What would be said again and again is told once in a
while, with the number of those between (`repeated`, `not_told`, `refusals`).

The lines are an interface. The events below are all there are, their fields are typed, and a field means the same in
every event; [deploy/log-events.schema.json](../deploy/log-events.schema.json) says it as JSON Schema. New events and
fields may come with a new version: let pass what you do not know. Lines of libraries (arq, httpx, redis-py) are of the
event `library`, with their text in `message`. No line holds a secret, or a field of a record.

`trace_id` and `run_id` lead from the tick that found a poll due to the events that it published: the tick makes the
trace, the job and the run carry it, every line that is written on the way has both, the run record keeps them, and
with `ORDERSYNC_EVENTS__TRACEPARENT=true` each event has them in `traceparent` (`00-TRACE_ID-RUN_ID-FLAGS`, W3C).

## Ten questions

Each is a file in `docs/queries`. Those in jq read a file, or what `journalctl -u ordersync -o cat` and `docker logs`
print:

```console
$ journalctl -u ordersync -o cat --since -1h | jq -nRr -f docs/queries/failing.jq
```

Those in LogQL are for Grafana Loki; put the selector of your stream in place of `{app="ordersync"}`.
"""


def page(queries: Path) -> str:
    """The whole page; `queries` is the folder of the questions."""
    parts = [_BEGIN]
    parts += [_question(number, query) for number, query in enumerate(load_queries(queries), 1)]
    parts.append("## Events\n")
    parts.append(
        "Fields in brackets are there where they apply; those of every line, and those that any event may have, stand "
        "under [Fields](#fields).\n"
    )
    for theme, events in THEMES.items():
        parts += [f"### {theme}\n", *(_event(event) for event in events)]
    parts.append("## Fields\n")
    parts.append(_table("Every line:", HEAD))
    parts.append(_table("Any event:", COMMON))
    others = FIELDS.keys() - {field.name for field in (*HEAD, *COMMON)}
    parts.append(_table("The events that name them:", [FIELDS[name] for name in sorted(others)]))
    return "\n".join(parts)


def _question(number: int, query: Query) -> str:
    return (
        f"### {number}. {query.question}\n\n{query.about}\n\n"
        f"```jq\n{query.jq}\n```\n\n```logql\n{query.logql}\n```\n"
    )


def _event(event: LogEvent) -> str:
    level = "any level" if event.name in FREE_LEVEL else event.level.value
    fields = [f"`{name}`" for name in event.fields] + [f"[`{name}`]" for name in event.optional]
    said = f"**`{event.name}`** ({level}): {event.meaning}"
    said += f" *{event.action}*" if event.action else ""
    return f"{said}\n{', '.join(fields)}\n" if fields else f"{said}\n"


def _table(title: str, fields: Iterable[LogField]) -> str:
    rows = [f"| `{field.name}` | {field.kind.value} | {field.meaning} |" for field in fields]
    return "\n".join([title, "", "| field | kind | meaning |", "|---|---|---|", *rows, ""])
