"""The end of a test in which anything may have happened: the rest is told, and all of it held against the truth."""

from __future__ import annotations

import json

from ordersync_consumer import tail as stream
from tests.support.mutations import Place
from tests.support.oracle import Ledger, entry_id
from tests.support.worker import Bench
from worker.capture.registry import AUDIT_LOGS, CAPTURED
from worker.capture.resources import AuditLog
from worker.capture.state.cursor import BACKLOG_DONE
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.errors import NotFound
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.reply import audit_of
from worker.redis.connections import answer


async def look_once_more(b: Bench) -> list[str]:
    """One poll of everything, also of what would wait for its time. What came of it, so that it has not settled."""
    restless = []
    for name, captured in CAPTURED.items():
        key = b.account.keys.refresh_queue(name)
        waiting = await answer(b.redis.zrange(key, 0, -1))
        if waiting:
            await answer(b.redis.zadd(key, dict.fromkeys(waiting, 1.0)))
        before = await StateStore(b.redis, b.account.keys, captured).load_cursor()
        if isinstance(captured, AuditLog) and not waiting and before.backlog == BACKLOG_DONE:
            continue
        if (
            before.held_back or before.suspicious
        ):  # of so few records 2 % are one, and the last may go as well
            await answer(b.redis.hset(b.account.keys.accepted, name, "1"))
        if before.stale:
            await b.grow_old(name)
        run = await b.poll(captured, complete=not isinstance(captured, AuditLog))
        came = {
            "due": len(waiting),
            "published": run.published,
            "missing": run.missing,
            "held back": before.held_back,
            "suspicious": before.suspicious,
            "stale": before.stale,
            "resumed": bool(before.scan.started),
        }
        if run.outcome is not Outcome.COMPLETE or any(came.values()):
            restless.append(f"{name}: {run.outcome} {run.error} {came}")
    return restless


async def take_new(b: Bench, ledger: Ledger, read: dict[str, str]) -> None:
    """Hold what is new in every stream against what was true; `read` is how far each has been read."""
    for name in CAPTURED:
        key = b.account.keys.stream(name)
        new = [event async for event in stream.follow(b.redis, key, read.get(name, "0"), wait=False)]
        ledger.take(name, new)
        if new:
            read[name] = new[-1].entry_id


async def missing_entries(b: Bench, ledger: Ledger) -> dict[str, list[str]]:
    """What was not told of the audit logs as OrderMesh serves them now, by stream."""
    found: dict[str, list[str]] = {}
    for name, log in AUDIT_LOGS.items():
        served, lost = dict[str, list[str]](), set[str]()
        for record in ledger.ever(log.parent.name):
            if name == "package_audit":
                seen = {each for told in ledger.contents_of("shipments", record) for each in _packages(told)}
                packages = [_packages(state) for state in ledger.states_of(Place("shipments", record))]
                for package in dict.fromkeys(each for some in packages for each in some):
                    served[package] = await _served(b, log, record, package)
                    if package not in seen:
                        lost.add(package)
            else:
                served[record] = await _served(b, log, record)
                if not ledger.was_told(log.parent.name, record):
                    lost.add(record)
        found[name] = ledger.missing_entries(name, served, lost)
    return found


async def _served(b: Bench, log: AuditLog, *path: str) -> list[str]:
    """The ids of the entries of a log, of all its pages."""
    names = OPERATIONS[log.operation].path_parameters
    found: list[str] = []
    number = b.sandbox._sandbox.contract.page_base
    while True:
        try:
            reply = await b.account.client.call(
                log.operation,
                path=dict(zip(names, path, strict=True)),
                query={"page": str(number), "pageSize": "100"},
            )
        except NotFound:
            return []
        page = [entry_id(json.loads(entry.raw)) for entry in audit_of(reply).entries]
        found += page
        if not page or b.sandbox._sandbox.contract.audit_page_size is None:
            return found
        number += 1


def _packages(state: str | None) -> list[str]:
    return [each["id"] for each in json.loads(state)["packages"]] if state else []
