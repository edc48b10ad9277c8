"""How the sandbox lays out its lists: everything about OrderMesh searches that the vendor does not document.

Only `page`, `pageSize`, a first page of 1 and a plural wrapper key are seen in a vendor sample (the product
catalog). The rest is a variant here, so that the engine can be held against every layout the real service may
turn out to have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.sandbox.answers import Answer, error_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Contract:
    """The layout of list answers.

    Args:
        wrapper_key: Key of the list in the answer; None serves a bare list, which has no room for a total.
        page_base: Number of the first page, 0 or 1.
        default_page_size: Records in a page when the client names no size.
        max_page_size: A larger size asked for is cut to this one, silently, as services do; None: no limit.
        total: Key that tells how many records match; None leaves it out.
        paging: Whether the answer repeats `page` and `pageSize` (the size that was really used).
        descending: Newest record first instead of oldest first; the order is that of creation.
        latency: Seconds that every API request waits before it is served.
        gzip: Compress bodies for clients that accept it.
    """

    wrapper_key: str | None = "orders"
    page_base: int = 1
    default_page_size: int = 50
    max_page_size: int | None = None
    total: str | None = "total"
    paging: bool = True
    descending: bool = False
    latency: float = 0.0
    gzip: bool = False

    def read_page(self, query: Mapping[str, str]) -> tuple[int, int] | Answer:
        """Page number and size that a query asks for, or the 400 that refuses it."""
        page = _whole(query, "page", self.page_base, self.page_base)
        if isinstance(page, Answer):
            return page
        size = _whole(query, "pageSize", self.default_page_size, 1)
        if isinstance(size, Answer):
            return size
        return page, size if self.max_page_size is None else min(size, self.max_page_size)

    def bounds(self, page: int, size: int, total: int) -> tuple[int, int]:
        """Positions `[start, stop)` of a page in a list of `total` records in creation order."""
        first = (page - self.page_base) * size
        if self.descending:
            return max(0, total - first - size), max(0, total - first)
        return first, first + size

    def render(self, rows: Sequence[bytes], page: int, size: int, total: int) -> bytes:
        """The body of a page; `rows` are rendered records in the order in which they are served."""
        head, tail = self._frame(page, size, total)
        if not rows:
            return head + b"[]" + tail
        # One join is the only copy of the page: the frame is glued to the first and last record beforehand.
        parts = list(rows)
        parts[0] = head + b"[" + parts[0]
        parts[-1] = parts[-1] + b"]" + tail
        return b",".join(parts)

    def render_not_a_list(self, page: int, size: int) -> bytes:
        """A body whose list is an object instead: valid JSON that breaks the contract."""
        head, tail = self._frame(page, size, 0)
        return head + b"{}" + tail

    def _frame(self, page: int, size: int, total: int) -> tuple[bytes, bytes]:
        if self.wrapper_key is None:
            return b"", b""
        tail = f',"page":{page},"pageSize":{size}' if self.paging else ""
        if self.total is not None:
            tail += f',"{self.total}":{total}'
        return f'{{"{self.wrapper_key}":'.encode(), f"{tail}}}".encode()


def _whole(query: Mapping[str, str], name: str, default: int, least: int) -> int | Answer:
    text = query.get(name)
    if text is None:
        return default
    # Nine digits are more than any list here holds, and keep the arithmetic of positions small.
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return error_answer(400, f"'{name}' must be a whole number.", name, text)
    number = int(text)
    if number < least:
        return error_answer(400, f"'{name}' must be greater than or equal to '{least}'.", name, number)
    return number
