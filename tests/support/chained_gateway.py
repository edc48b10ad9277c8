"""A gateway whose pages have no numbers: each answer says how to request the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.support.faulty_gateway import Liar, Query, Record, Reply

HEADER = "header:"


@dataclass(slots=True, kw_only=True)
class Chained(Liar):
    """A `Liar` that gives a token, or the address of the next page.

    `place`: the field of the body, with dots, or `header:` and a name, that has it; `parameter`: the query parameter,
    or the header, that takes it, None for an address. `host`: that of the addresses, "" for none; `other_path`: that of
    later pages. `strict`: a page number is refused. `expired`: tokens that are refused. `circle`: after the page with
    this number comes the first one again. `endless`: pages without records follow. `null`: what stands in the place at
    the end, if anything.
    """

    place: str = "nextLink"
    parameter: str | None = None
    host: str = ""
    other_path: str = ""
    strict: bool = False
    expired: set[str] = field(default_factory=set)
    circle: int | None = None
    endless: bool = False
    null: Any = None

    def _page(self, query: Query) -> Reply:
        if self.strict and "page" in query:
            return 400, {"message": "unknown parameter: page"}
        rows = (
            sorted(self.records, key=lambda row: row["id"], reverse=True)
            if self.newest_first
            else self.records
        )
        rows = self._narrow(rows, query)
        size = min(int(query.get("pageSize", "50")), self.cap)
        token = self._token(query)
        if token in self.expired:
            return 400, {"message": "this token has expired"}
        begin = int(token.removeprefix("t-") or 0) if token else 0
        shown = rows[begin : begin + size]
        following = begin + size
        if self.circle is not None and following > self.circle * size:
            following = 0
        body: Record = {"orders": shown}
        if self.total:
            body["total"] = self.told(len(rows))
        value = self._following(following, query) if following < len(rows) or self.endless else self.null
        self._put(body, value)
        return 200, self.wrap(body)

    def _token(self, query: Query) -> str:
        if self.parameter is None:
            return query.get("skipToken", "")
        if self.parameter.startswith(HEADER):
            return self.sent.get(self.parameter.removeprefix(HEADER).lower(), "")
        return query.get(self.parameter, "")

    def _following(self, number: int, query: Query) -> str:
        token = f"t-{max(0, number)}"
        if self.parameter is not None:
            return token
        return f"{self.host}{self.other_path or self.path}?{urlencode({**query, 'skipToken': token})}"

    def _put(self, body: Record, value: Any) -> None:
        if self.place.startswith(HEADER):
            name = self.place.removeprefix(HEADER)
            if value and name == "Link":
                first = f'<{self.host}{self.path}>; rel="first"'
                self.headers.append(f'Link: {first}, <{value}>; title="a, b"; rel="next"')
            elif value:
                self.headers.append(f"{name}: {value}")
            return
        if value is None and self.null is None:
            return
        *outer, name = self.place.split(".") if not self.place.startswith("@") else [self.place]
        for each in outer:
            body = body.setdefault(each, {})
        body[name] = value

    def reply(self, path: str, query: Query) -> Reply:
        """What a request is answered with; the pages may be at another path than the first one."""
        if self.other_path and path == self.other_path:
            self.asked.append(query)
            return self._page(query)
        return Liar.reply(self, path, query)
