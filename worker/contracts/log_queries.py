"""The questions that operators ask of the log, each with its query in jq and in LogQL (Grafana Loki).

Those in jq read the lines as they are, also when other text stands between them; a test runs each on the log of a
worker that it has driven into trouble. Those in LogQL expect a stream `{app="ordersync"}` with the lines as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

PREPARE = "fromjson? | select(.event != null)"
"""What each query in jq begins with: whatever is no line of the log is passed over."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question; `about` says how to read the answer. `jq` is given raw lines, `lines` are all of them."""

    key: str
    question: str
    about: str
    jq: str
    loki: str


QUERIES = (
    Query(
        "fresh",
        "Is everything being read, and when was it last read to its end?",
        "The last complete poll of each resource: time, account, resource, age of what it may have missed. A "
        "resource that is missing, or whose time is old, is in trouble: "
        "question 2 says which.",
        """
        [lines | select(.event == "poll_done" and .outcome == "complete" and .freshness_s != null)]
        | group_by([.account, .resource])[] | last
        | [.timestamp, .account, .resource, .freshness_s] | @tsv
        """,
        """
        last_over_time({app="ordersync"} | json | event="poll_done" | outcome="complete"
          | unwrap freshness_s [1h]) by (account, resource)
        """,
    ),
    Query(
        "failing",
        "What fails, since when, how often, and why?",
        "One line for each kind of failure of a resource: how often, first, last, and the last words. The "
        "same failure is told once a minute; `repeated` counts "
        "those between, so the sum is right.",
        """
        [lines | select(.event == "poll_failed")]
        | group_by([.account, .resource, .error_code])[]
        | [.[0].account, .[0].resource, .[0].error_code, (map(1 + .repeated) | add),
           .[0].timestamp, last.timestamp, last.error] | @tsv
        """,
        """
        sum by (account, resource, error_code) (
          count_over_time({app="ordersync"} | json | event="poll_failed" [1h]))
        """,
    ),
    Query(
        "trace",
        "What happened in this run, from the tick to the commit?",
        "All lines of one run or trace, also those of libraries: `jq --arg id ...`. The ids stand in the run "
        "records, and with ORDERSYNC_EVENTS__TRACEPARENT=true in each event: this tells where an event comes "
        "from.",
        """
        lines | select(.trace_id == $id or .run_id == $id)
        | [.timestamp, .level, .event, (.error // .reason // .message // "")] | @tsv
        """,
        """
        {app="ordersync"} | json | trace_id="$id" or run_id="$id"
        """,
    ),
    Query(
        "published",
        "How many events were published, and of what kind?",
        "For each hour and resource: snapshot, created, updated, deleted, recorded. In LogQL one of them at a"
        " time.",
        """
        [lines | select(.event == "poll_done" or .event == "poll_failed")]
        | group_by([.timestamp[:13], .account, .resource])[]
        | [.[0].timestamp[:13], .[0].account, .[0].resource, (map(.snapshot) | add), (map(.created) | add),
           (map(.updated) | add), (map(.deleted) | add), (map(.recorded) | add)] | @tsv
        """,
        """
        sum by (account, resource) (
          sum_over_time({app="ordersync"} | json | event=~"poll_(done|failed)" | unwrap updated [1h]))
        """,
    ),
    Query(
        "slow",
        "Which polls take long, and what do they wait for?",
        "The ten longest polls: seconds, of which waits for the budget, requests, retries, pages, and which "
        "it was. Where `budget_wait_s` is most of it, the budget is too small ("
        "ORDERSYNC_API__REQUESTS_PER_SECOND); where `retries` is high, the gateway is ill; else pages are "
        "many.",
        """
        [lines | select(.event == "poll_done" or .event == "poll_failed")]
        | sort_by(-.duration_s)[:10][]
        | [.duration_s, .budget_wait_s, .requests, .retries, .pages, .account, .resource, .run_id] | @tsv
        """,
        """
        topk(10, max_over_time({app="ordersync"} | json | event=~"poll_(done|failed)"
          | unwrap duration_s [1h]) by (account, resource))
        """,
    ),
    Query(
        "budget",
        "What is the request budget spent on?",
        "Requests, how many of them were retries, seconds spent waiting, and requests for each event "
        "published.",
        """
        [lines | select(.event == "poll_done" or .event == "poll_failed")]
        | group_by([.account, .resource])[]
        | (map(.requests) | add) as $sent | (map(.snapshot + .created + .updated + .deleted + .recorded) | add) as $out
        | [.[0].account, .[0].resource, $sent, (map(.retries) | add), (map(.budget_wait_s) | add | round),
           (if $out > 0 then ($sent / $out * 100 | round / 100) else "-" end)] | @tsv
        """,
        """
        sum by (account, resource) (
          sum_over_time({app="ordersync"} | json | event=~"poll_(done|failed)" | unwrap requests [1h]))
        """,
    ),
    Query(
        "paused",
        "When did polling pause, for whom, and for how long?",
        "Each pause with its cause, and the time at which it went on; the name of the group that had to catch"
        " up, or of who has paused it.",
        """
        [lines | select(.event | IN("backpressure_on", "backpressure_off", "polling_paused", "polling_resumed"))]
        | group_by([.account, .resource])[] | .[]
        | [.timestamp, .account, .resource, .event, (.group // .by // ""), .unread, (.cause // .reason // "")] | @tsv
        """,
        """
        {app="ordersync"} | json | event=~"backpressure_(on|off)|polling_(paused|resumed)"
          | line_format "{{.event}} {{.resource}} {{.group}}{{.by}} {{.unread}} {{.cause}}{{.reason}}"
        """,
    ),
    Query(
        "unreadable",
        "Which records and events could not be dealt with?",
        "Records that could not be read, and events that a consumer gave up. They stand among the dead "
        "letters: "
        "`ordersync dead list`.",
        """
        lines | select(.event == "record_unreadable" or .event == "delivery_dead")
        | [.timestamp, .event, .account, .resource, (.subject // "page \\(.page)"), (.error // .reason)] | @tsv
        """,
        """
        {app="ordersync"} | json | event="record_unreadable" or event="delivery_dead"
        """,
    ),
    Query(
        "outages",
        "When was Redis, the gateway or the login away?",
        "What was told of each, in time order, until it was back: `worker_started`, `redis_has_room`, or a "
        "`poll_done`.",
        """
        lines
        | select((.event | IN("waiting_for_redis", "queue_lost", "worker_started", "redis_full", "redis_has_room",
                              "login_failed", "logged_in"))
                 or (.event == "poll_failed"
                     and (.error_code | IN("gateway_unreachable", "login_rejected", "redis_unavailable",
                                           "server_error"))))
        | [.timestamp, .event, (.account // ""), (.error // "")] | @tsv
        """,
        """
        {app="ordersync"} | json
          | event=~"waiting_for_redis|queue_lost|worker_started|redis_full|redis_has_room|login_failed|logged_in"
            or (event="poll_failed" and error_code=~"gateway_unreachable|login_rejected|redis_unavailable|server_error")
        """,
    ),
    Query(
        "restarts",
        "Who ended the worker, did it end in order, and was anything stuck?",
        "Starts and ends. A start without an end before it was a crash or SIGKILL; `worker_hangs` names what "
        "stood "
        "still, since when, and where in the code.",
        """
        lines
        | select(.event | IN("worker_started", "stopping", "stopped", "stopped_at_once", "jobs_cut_short",
                             "worker_failed", "worker_hangs"))
        | [.timestamp, .event, (.signal // ""), ((.stuck // []) | join("; ")), (.stuck_since // ""), (.stack // "")]
        | @tsv
        """,
        """
        {app="ordersync"} | json
          | event=~"worker_started|stopping|stopped|stopped_at_once|jobs_cut_short|worker_failed|worker_hangs"
        """,
    ),
)
"""The ten questions."""


def program(query: Query) -> str:
    """The query as jq runs it, with `-nR`."""
    return f"def lines: inputs | {PREPARE};\n{_plain(query.jq)}"


def loki(query: Query) -> str:
    """The query as Loki takes it."""
    return _plain(query.loki)


def _plain(text: str) -> str:
    lines = text.strip("\n").rstrip().splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines)
