"""The layout of the sandbox's API: everything about OrderMesh that the vendor does not document.

Only `page`, `pageSize`, a first page of 1 and a plural wrapper key are shown in a vendor sample (the product catalog).
Everything else can be changed here, so that the engine can be tested with every layout that the real service may have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from worker.ordermesh.contract.operations import OPERATIONS, SERVICES, Operation
from worker.sandbox.answers import Answer, error_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLURAL = "*"
"""The wrapper key that stands for the plural in the table of operations, such as `orders`."""


class ContractError(ValueError):
    """A field of a contract has a value that is not allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name = name
        self.value = value
        super().__init__(f"contract: {name} is {value!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class ServedContract:
    """The layout of responses and paths.

    Args:
        wrapper_key: Key of every list in its response; `none` serves bare lists, which cannot have a total. The
            default `*` uses the plural in the table of operations.
        page_base: Number of the first page, 0 or 1.
        default_page_size: Records per page if the request has no size.
        max_page_size: Largest page size; a larger one is reduced without an error. `none`: no limit.
        refuse_large: Refuse a size above `max_page_size` with 400 instead.
        lenient_pages: Serve page 0 of a list whose first page is 1 as page 1, instead of refusing it with 400.
        result_cap: Number of records of a result that can be read, which is also the largest total; later pages are
            empty. `none`: no limit.
        refuse_deep: Refuse a page that begins after `result_cap` with 400, and show the real total.
        index_lag: Seconds after which lists show a change; single records show it at once.
        ignore_page: Ignore `page`: every page is the first one.
        total: Key of the number of matching records; `none` omits it.
        total_extra: Number added to every total, as by a gateway that counts records that the token may not read.
        paging: Repeat `page` and `pageSize` (the size that was used) in the response.
        descending: List the newest record first instead of the oldest, by creation.
        since_honoured: Let `updatedFrom` and `updatedTo`, for shipments `lastModifiedDateFrom` and
            `lastModifiedDateTo`, select the records modified in this span, both ends inclusive. A record that was
            never modified counts by its creation. The parameters named after the field of creation, such as
            `createdFrom`, work in the same way. If false, they are ignored without an error.
        choices_honoured: Let parameters named after fields, such as `status` and `merchantId`, filter a list. If
            false, they are ignored without an error.
        sort_honoured: Let `sortBy` with a field of modification or creation, and `sortDirection` (`asc` or `desc`),
            sort a list. If false, they are ignored without an error.
        prefixless: Services whose paths have no prefix, `/v1/orders` instead of `/order/v1/orders`; the path with
            the prefix then does not exist.
        moved: Other paths of operations, by key, with as many parameters as the path in the table. Parameters are
            matched by name, or by position if the names differ.
        login_case: Spelling of the fields of a client's login: `camel` (clientId), `snake` (client_id), or
            `either`.
        audit_shape: `wrapped` serves audit logs in `auditLogs`, `bare` as a bare list with other field names.
        audit_page_size: Largest number of entries in a response of an audit log, which then has pages as a list has;
            `none` serves every log as a whole.
        latency: Seconds that every API request waits before it is served.
        gzip: Compress bodies for clients that accept it.

    Raises:
        ContractError: A value is not allowed; the message lists the allowed ones.
    """

    wrapper_key: str | None = PLURAL
    page_base: int = 1
    default_page_size: int = 50
    max_page_size: int | None = None
    refuse_large: bool = False
    lenient_pages: bool = False
    result_cap: int | None = None
    refuse_deep: bool = False
    index_lag: float = 0.0
    ignore_page: bool = False
    total: str | None = "total"
    total_extra: int = 0
    paging: bool = True
    descending: bool = False
    since_honoured: bool = False
    choices_honoured: bool = True
    sort_honoured: bool = False
    prefixless: tuple[str, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)
    login_case: Literal["either", "camel", "snake"] = "either"
    audit_shape: Literal["wrapped", "bare"] = "wrapped"
    audit_page_size: int | None = None
    latency: float = 0.0
    gzip: bool = False

    def __post_init__(self) -> None:
        checks = (
            ("page_base", self.page_base in (0, 1), "0 or 1"),
            ("default_page_size", self.default_page_size >= 1, "a whole number from 1"),
            (
                "max_page_size",
                self.max_page_size is None or self.max_page_size >= 1,
                "a whole number from 1, or none",
            ),
            (
                "audit_page_size",
                self.audit_page_size is None or self.audit_page_size >= 1,
                "a whole number from 1, or none",
            ),
            ("result_cap", self.result_cap is None or self.result_cap >= 1, "a whole number from 1, or none"),
            ("index_lag", 0 <= self.index_lag <= 86_400, "seconds from 0 to 86400"),
            ("latency", 0 <= self.latency <= 60, "seconds from 0 to 60"),
            ("prefixless", set(self.prefixless) <= set(SERVICES), f"of {', '.join(SERVICES)}"),
            ("login_case", self.login_case in _LOGIN_CASES, f"one of {', '.join(_LOGIN_CASES)}"),
            ("audit_shape", self.audit_shape in _AUDIT_SHAPES, f"one of {', '.join(_AUDIT_SHAPES)}"),
        )
        for name, is_good, allowed in checks:
            if not is_good:
                raise ContractError(name, getattr(self, name), allowed)
        for key, path in self.moved.items():
            _check_moved(key, path)
        if self.moved or self.prefixless:
            self._check_paths()

    # Paths

    def path(self, operation: Operation) -> str:
        """Return the path of an operation, with `{names}` for its parameters."""
        moved = self.moved.get(operation.key)
        if moved is not None:
            return moved
        if operation.service in self.prefixless:
            return operation.path.removeprefix(f"/{operation.service}")
        return operation.path

    def _check_paths(self) -> None:
        """Check that no two operations have the same path. Orders and shipments both have `/v1/orders/{id}`."""
        keys: dict[tuple[str, str], str] = {}
        for operation in OPERATIONS.values():
            path = self.path(operation)
            route = operation.method, _PARAMETER.sub("{}", path)
            if route in keys:
                name = "moved" if self.moved else "prefixless"
                other = (
                    f"paths that differ: {keys[route]} and {operation.key} are both {operation.method} {path}"
                )
                raise ContractError(name, getattr(self, name), other)
            keys[route] = operation.key

    # Lists

    def read_page(self, query: Mapping[str, str]) -> tuple[int, int] | Answer:
        """Return the page number and size in a query, or the 400 that refuses it."""
        page: int | Answer = self.page_base
        if not self.ignore_page:
            page = _whole(query, "page", self.page_base, 0 if self.lenient_pages else self.page_base)
        if isinstance(page, Answer):
            return page
        size = _whole(query, "pageSize", self.default_page_size, 1)
        if isinstance(size, Answer):
            return size
        limit = self.max_page_size
        if limit is not None and size > limit:
            if self.refuse_large and "pageSize" in query:
                sentence = f"'pageSize' must be less than or equal to '{limit}'."
                return error_answer(400, sentence, "pageSize", size)
            size = limit
        return max(page, self.page_base), size

    def refuses(self, page: int, size: int, total: int) -> bool:
        """True if a page of a result of `total` records begins after the cap and is refused because of that."""
        if self.result_cap is None or not self.refuse_deep or total <= self.result_cap:
            return False
        return (page - self.page_base) * size >= self.result_cap

    def bounds(self, page: int, size: int, total: int) -> tuple[int, int]:
        """Return the positions `[start, stop)` of a page in a list of `total` records in creation order."""
        first = (page - self.page_base) * size
        if self.descending:
            return max(0, total - first - size), max(0, total - first)
        return first, first + size

    def render(
        self, rows: Sequence[bytes], page: int, size: int, total: int, records: str = "orders"
    ) -> bytes:
        """Return the body of a page.

        Args:
            rows: Encoded records in the order in which they are served.
            page: Number of the page.
            size: Records in a full page.
            total: Records in all pages.
            records: The plural key of the list.
        """
        return self._join(rows, *self._frame(page, size, total, records))

    def render_whole(self, rows: Sequence[bytes], records: str) -> bytes:
        """Return the body of a list without pages, with its key or bare."""
        key = self._key(records)
        return self._join(rows, *((b"", b"") if key is None else (f'{{"{key}":'.encode(), b"}")))

    def render_not_a_list(self, page: int, size: int, records: str = "orders") -> bytes:
        """Return a body with an object in place of the list: valid JSON that breaks the contract."""
        head, tail = self._frame(page, size, 0, records)
        return head + b"{}" + tail

    def _key(self, records: str) -> str | None:
        return records if self.wrapper_key == PLURAL else self.wrapper_key

    def _frame(self, page: int, size: int, total: int, records: str) -> tuple[bytes, bytes]:
        key = self._key(records)
        if key is None:
            return b"", b""
        tail = f',"page":{page},"pageSize":{size}' if self.paging else ""
        if self.total is not None:
            tail += f',"{self.total}":{max(0, total + self.total_extra)}'
        return f'{{"{key}":'.encode(), f"{tail}}}".encode()

    @staticmethod
    def _join(rows: Sequence[bytes], head: bytes, tail: bytes) -> bytes:
        if not rows:
            return head + b"[]" + tail
        # A single join, so that the page is copied only once: the frame is added to the first and last record before.
        parts = list(rows)
        parts[0] = head + b"[" + parts[0]
        parts[-1] = parts[-1] + b"]" + tail
        return b",".join(parts)


_PARAMETER = re.compile(r"\{\w+\}")
_LOGIN_CASES: tuple[str, ...] = get_args(Literal["either", "camel", "snake"])
_AUDIT_SHAPES: tuple[str, ...] = get_args(Literal["wrapped", "bare"])


def _check_moved(key: str, path: str) -> None:
    if key not in OPERATIONS:
        raise ContractError("moved", key, f"a key of the table of operations: {', '.join(OPERATIONS)}")
    expected = len(OPERATIONS[key].path_parameters)
    if not path.startswith("/") or len(_PARAMETER.findall(path)) != expected:
        raise ContractError(f"moved.{key}", path, f"a path from the root with {expected} {{parameters}}")


def _whole(query: Mapping[str, str], name: str, default: int, least: int) -> int | Answer:
    text = query.get(name)
    if text is None:
        return default
    # Nine digits are enough for every list of the sandbox, and keep positions small.
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return error_answer(400, f"'{name}' must be a whole number.", name, text)
    number = int(text)
    if number < least:
        return error_answer(400, f"'{name}' must be greater than or equal to '{least}'.", name, number)
    return number
