"""Holds the entries of the streams against the history of the gateway, and counts what is wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

import redis

from tests.support.gateway.history import KINDS, OTHER, Line, Record, State
from tests.support.gateway.server import Gateway
from tests.support.waiting import PATIENCE

_NEW = ("snapshot", "created")


@dataclass(frozen=True, slots=True)
class Told:
    """One entry of a stream, as a consumer sees it."""

    entry: str
    id: str
    action: str
    subject: str
    sequence: int
    version: int
    reason: str
    data: Record

    @property
    def words(self) -> str:
        """A short description for messages."""
        return f"{self.subject} {self.action} version {self.version} (entry {self.entry}, {self.reason})"


@dataclass(slots=True)
class Verdict:
    """What is wrong with the events of some streams; each list names the records or the events.

    Attributes:
        events: How many events there are.
        missed: Records whose last state was not told, and entries of audit logs that were not told.
        twice: Events that tell what the event before them told.
        out_of_order: Events that tell a state older than one that was told before.
        never_so: Events that tell what was never so.
        foreign: Events of records of another tenant.
        wrongly_deleted: Deletions of records that were there all the time.
        wrong_first: `created` for records older than the first read, or `snapshot` for younger ones.
        numbering: Events whose sequence or version does not follow the one before, or whose id was used before.

    """

    events: int = 0
    missed: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    never_so: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    wrongly_deleted: list[str] = field(default_factory=list)
    wrong_first: list[str] = field(default_factory=list)
    numbering: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How often each thing is wrong, without those that are right."""
        lists = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "events"}
        return {name: len(found) for name, found in lists.items() if found}

    def __str__(self) -> str:
        examples = {name: getattr(self, name)[:3] for name in self.counts}
        return f"{self.events} events; wrong: {self.counts or 'nothing'} {examples or ''}"


class Judge:
    """Reads the streams of one account, as a consumer that forgets nothing, and judges them.

    Attributes:
        told: What was told, by stream.
        settled: When the first read was over, in seconds since 1970; None before that.
        deaf: The streams are not read; `hear` says what was told.

    Args:
        gateway: The gateway with the history.
        redis_url: The server with the streams, directly, also if the worker has a proxy before it.
        streams: The streams: kinds, such as `orders`, and their audit logs, such as `order_audit`.
        account: The account.
        without: Fields that are not compared, since a setting leaves them out.

    """

    def __init__(
        self,
        gateway: Gateway,
        redis_url: str,
        *streams: str,
        account: str = "default",
        without: tuple[str, ...] = (),
    ) -> None:
        self.deaf = False
        self._without = without
        self.gateway = gateway
        self.streams = streams or ("orders",)
        self.settled: float | None = None
        self._redis: Any = redis.Redis.from_url(redis_url)
        self._account = account
        self._read: dict[str, bytes] = {}
        self._places: dict[str, dict[str, int]] = {}
        self.told: dict[str, list[Told]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._redis.close()

    def take(self) -> None:
        """Read what is new in the streams."""
        for name in self.streams:
            key = f"ordersync:{{{self._account}}}:stream:{name}"
            while True:
                start = b"(" + self._read[name] if name in self._read else b"-"
                entries = self._redis.xrange(key, min=start, count=1000)
                if not entries:
                    break
                self._read[name] = entries[-1][0]
                self.told[name] += [_told(entry, values) for entry, values in entries]

    def hear(self, stream: str, lines: Iterable[str]) -> int:
        """Judge what a consumer heard, instead of the stream: lines of JSON as `ordersync consume` passes them on.

        A consumer that was killed may hear an event again; that is left out here. How often that was.
        """
        told = self.told[stream]
        known = {each.entry for each in told}
        again = 0
        for line in lines:
            values = json.loads(line)
            if values["entry"] in known:
                again += 1
                continue
            known.add(values["entry"])
            told.append(
                Told(
                    entry=values["entry"],
                    id=values["id"],
                    action=values["type"].rpartition(".")[2],
                    subject=values["subject"],
                    sequence=int(values["sequence"]),
                    version=int(values["version"]),
                    reason=values["reason"],
                    data=values["data"],
                )
            )
        return again

    def verdict(self) -> Verdict:
        """Judge all that was told so far against what is and was."""
        if not self.deaf:
            self.take()
        verdict = Verdict()
        for name in self.streams:
            verdict.events += len(self.told[name])
            _judge_numbers(verdict, self.told[name])
            if name in KINDS:
                self._judge_records(verdict, name)
            else:
                self._judge_entries(verdict, name)
        return verdict

    def missed(self) -> list[str]:
        """What was not told yet."""
        return self.verdict().missed

    def behind(self, kind: str, moment: float) -> list[str]:
        """The records that still exist, of which the state of a moment, or a later one, was not told."""
        self.verdict()
        found = []
        for subject, line in list(self.gateway.history.lines[kind].items()):
            if line.tenant == OTHER or line.states[-1].content is None:
                continue
            then = sum(state.at <= moment for state in line.states) - 1
            if then > self._places[kind].get(subject, -1):
                found.append(subject)
        return found

    async def recovered(self, seconds: float = PATIENCE) -> float:
        """Wait until nothing is missed any more; the seconds that it took. The first time, the first read is over."""
        started = time.monotonic()
        while missed := self.missed():
            passed = time.monotonic() - started
            assert passed < seconds, f"{len(missed)} still missed after {passed:.0f} s: {self.verdict()}"
            await asyncio.sleep(0.05)
        self.settled = self.settled or time.time()
        return time.monotonic() - started

    def _judge_records(self, verdict: Verdict, kind: str) -> None:
        lines = self.gateway.history.lines[kind]
        place = self._places[kind] = {}
        last: dict[str, Told] = {}
        for told in self.told[kind]:
            line = lines.get(told.subject)
            if line is None or line.tenant == OTHER:
                verdict.foreign.append(told.words)
                continue
            place[told.subject] = self._judge_state(
                verdict, kind, line, told, at=place.get(told.subject, -1), before=last.get(told.subject)
            )
            last[told.subject] = told
        for subject, line in list(lines.items()):
            if line.tenant == OTHER:
                continue
            before, now = last.get(subject), line.states[-1].content
            known = None if before is None or before.action == "deleted" else before.data
            if self._view(known) != self._view(now):
                states = f"{place.get(subject, -1) + 1} of {len(line.states)} states"
                verdict.missed.append(f"{subject}: told {states}")

    def _judge_state(
        self, verdict: Verdict, kind: str, line: Line, told: Told, *, at: int, before: Told | None
    ) -> int:
        """Judge one event; the place of the state that it tells among those of the record."""
        known = before is not None and before.action != "deleted"
        content = None if told.action == "deleted" else told.data
        shown = self._view(content)
        places = [number for number, state in enumerate(line.states) if self._view(state.content) == shown]
        later = [number for number in places if number > at]
        if told.action == "deleted":
            if not known or not later:
                (verdict.twice if before and not known else verdict.wrongly_deleted).append(told.words)
        elif known and before is not None and shown == self._view(before.data):
            if told.reason != "resync":
                verdict.twice.append(told.words)
            return at
        elif not places:
            verdict.never_so.append(told.words)
        elif not later:
            verdict.out_of_order.append(told.words)
        if told.action in _NEW and (word := self._first_word(kind, line.states, before)):
            if told.action != word or known:
                verdict.wrong_first.append(f"{told.words}, not {word}")
        elif told.action == "updated" and not known:
            verdict.wrong_first.append(told.words)
        return later[0] if later else at

    def _view(self, content: Record | None) -> Record | None:
        if content is None or not self._without:
            return content
        return {name: value for name, value in content.items() if name not in self._without}

    def _first_word(self, kind: str, states: list[State], before: Told | None) -> str | None:
        """What the first event of a record is to be; None if both are right."""
        if before is not None:
            return "created"
        asked, first = self.gateway.first_asked.get(kind, 0.0), states[0]
        if first.at < asked:
            return "snapshot"
        says = (first.content or {}).get(KINDS[kind].created)
        if says and datetime.fromisoformat(says).replace(tzinfo=UTC).timestamp() < asked:
            return None  # the clock of the gateway was put back: by its creation time the record is older
        return "created" if self.settled is not None and states[0].at > self.settled else None

    def _judge_entries(self, verdict: Verdict, stream: str) -> None:
        kind = next(name for name, each in KINDS.items() if each.audit == stream)
        known: dict[str, set[str]] = defaultdict(set)
        for told in self.told[stream]:
            entry = str(told.data.get("id"))
            if entry in known[told.subject]:
                verdict.twice.append(told.words)
            known[told.subject].add(entry)
        for subject, line in list(self.gateway.history.lines[kind].items()):
            if line.tenant == OTHER or line.states[-1].content is None:
                continue
            ids = [each["id"] for each in line.log]
            verdict.missed += [f"{stream} {subject}: {each}" for each in ids if each not in known[subject]]
            verdict.never_so += [f"{stream} {subject}: {each}" for each in known[subject] - set(ids)]


def _judge_numbers(verdict: Verdict, told: list[Told]) -> None:
    versions: dict[str, int] = defaultdict(int)
    ids: set[str] = set()
    sequence = 0
    for each in told:
        if each.sequence != sequence + 1 or each.version != versions[each.subject] + 1 or each.id in ids:
            verdict.numbering.append(f"{each.words}: sequence {each.sequence} behind {sequence}")
        sequence, versions[each.subject] = each.sequence, each.version
        ids.add(each.id)


def _told(entry: bytes, values: dict[bytes, bytes]) -> Told:
    data = values[b"data"]
    if values.get(b"dataencoding", b"identity") == b"gzip":
        data = gzip.decompress(data)
    return Told(
        entry=entry.decode(),
        id=values[b"id"].decode(),
        action=values[b"type"].decode().rpartition(".")[2],
        subject=values[b"subject"].decode(),
        sequence=int(values[b"sequence"]),
        version=int(values[b"version"]),
        reason=values[b"reason"].decode(),
        data=json.loads(data),
    )
