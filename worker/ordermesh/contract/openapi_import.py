"""What an OpenAPI document says of the 79 operations: which it describes, and what differs from the table.

Pure. Operations are matched by title, then by our key as operationId, then by method and path. Paths are taken
as the document lists them, behind the path of its server. What cannot be told apart, or could not be sent, is
left unmatched with the reason, and keeps the built-in path.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from worker.ordermesh.contract.layers import (
    BUILT_IN_LISTING,
    check_method,
    fitted,
    plain,
    template,
    without_service,
)
from worker.ordermesh.contract.openapi_document import Described, Document, QueryParameter, document_of
from worker.ordermesh.contract.operations import OPERATIONS, SERVICES, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

By: TypeAlias = Literal["title", "operationId", "path"]

PAGE_PARAMETERS = ("page", "pageNumber", "pageNo", "pageNum", "pageIndex", "currentPage")
SIZE_PARAMETERS = (
    "pageSize",
    "perPage",
    "pageLimit",
    "limit",
    "itemsPerPage",
    "recordsPerPage",
    "size",
    "take",
)
"""Names of page parameters, the likelier first; compared without case and punctuation."""

_VERSION = re.compile(r"/v[0-9]+(/|$)")

_TITLES = {plain(operation.title): operation.title for operation in OPERATIONS.values()}

NOT_DESCRIBED = (
    "the document has no operation with this title, with this key as operationId, or with this method "
    "and path"
)


@dataclass(frozen=True, slots=True)
class Match:
    """An operation of the table and the one of the document that it is.

    `path` has the parameter names of the table. `changed` holds what differs from the table: `method`, `path`
    and fields of `Listing`. `notes` say what could not be told.
    """

    key: str
    by: By
    method: str
    path: str
    title: str
    changed: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """An operation of the table that the document has not got, or not so that it could be used."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An operation of the document that was not matched. Without a reason: the table has none like it."""

    method: str
    path: str
    title: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came out of a document, each part in the order of the table or the document.

    `servers`: paths that its servers put before those it lists. `unprefixed`: services whose paths stand in it
    without the prefix that they have in the table.
    """

    title: str
    version: str
    matched: tuple[Match, ...]
    missing: tuple[Missing, ...]
    unknown: tuple[Unknown, ...]
    servers: tuple[str, ...]
    unprefixed: tuple[str, ...]

    @property
    def operations(self) -> dict[str, Mapping[str, Any]]:
        """What differs from the table, by key, as a layer of a contract has it."""
        return {match.key: match.changed for match in self.matched if match.changed}


def import_document(root: Any, *, add_prefixes: bool = False) -> Imported:
    """Match a decoded document with the table.

    `add_prefixes`: put the prefix of its service before a path that is listed without it. A portal may list
    paths as the service knows them, where the gateway adds the prefix (docs/reference/api-facts.md, 1.1).

    Raises:
        NotOpenApi: It is no OpenAPI document, or describes no operation.

    """
    document = document_of(root)
    matching = _Matching(tuple(document.operations()), add_prefixes=add_prefixes)
    matching.by_title()
    matching.by_operation_id()
    matching.by_path()
    matched = tuple(
        _match(document, OPERATIONS[key], *matching.found[key]) for key in OPERATIONS if key in matching.found
    )
    bare = (OPERATIONS[one.key].service for one in matched if _lacks_prefix(OPERATIONS[one.key], one.path))
    return Imported(
        title=document.title,
        version=document.version,
        matched=matched,
        missing=tuple(
            Missing(key, matching.reasons.get(key, NOT_DESCRIBED))
            for key in OPERATIONS
            if key not in matching.found
        ),
        unknown=tuple(
            Unknown(theirs.method, theirs.path, theirs.title, matching.refused.get(index, ""))
            for index, theirs in enumerate(matching.described)
            if index not in matching.taken
        ),
        servers=tuple(dict.fromkeys(theirs.server for theirs in matching.described if theirs.server)),
        unprefixed=tuple(dict.fromkeys(bare)),
    )


class _Matching:
    """Pairs found so far. What is paired stays so; a later way looks only at what is left on both sides.

    `found`: key to operation of the document, its path with our names, and how it was found. `taken`: positions
    in the document that are paired. `reasons`, `refused`: why one of either side is not.
    """

    def __init__(self, described: tuple[Described, ...], *, add_prefixes: bool) -> None:
        self.described = described
        self.found: dict[str, tuple[Described, str, By]] = {}
        self.taken: set[int] = set()
        self.reasons: dict[str, str] = {}
        self.refused: dict[int, str] = {}
        self._add_prefixes = add_prefixes

    def by_title(self) -> None:
        """Compared without case, punctuation and spaces."""
        theirs = self._left(lambda index: plain(self.described[index].title))
        ours = defaultdict(list)
        for operation in OPERATIONS.values():
            ours[plain(operation.title)].append(operation)
        for title, operations in ours.items():
            positions = theirs.get(title, [])
            if len(operations) == 1:
                self._claim_one(operations[0], positions, "title")
            elif positions:
                self._tell_apart(operations, positions)

    def by_operation_id(self) -> None:
        """Our key, however it is punctuated: `orders.search`, `orders_search`, `OrdersSearch`."""
        theirs = self._left(lambda index: plain(self.described[index].operation_id))
        for key, operation in OPERATIONS.items():
            if key not in self.found:
                self._claim_one(operation, theirs.get(plain(key), []), "operationId")

    def by_path(self) -> None:
        """Same method, and the same path but for parameter names, with or without the service's prefix.

        Without it one path may be that of two services; such a path says nothing.
        """
        theirs = defaultdict(list)
        for index, one in enumerate(self.described):
            if index not in self.taken:
                for path in {template(one.path), template(_at_service(one))}:
                    theirs[one.method, path].append(index)
        bare = defaultdict(list)
        for operation in OPERATIONS.values():
            bare[_bare(operation)].append(operation.key)
        for key, operation in OPERATIONS.items():
            if key in self.found:
                continue
            whole = theirs.get((operation.method, template(operation.path)), [])
            alone = theirs.get(_bare(operation), []) if len(bare[_bare(operation)]) == 1 else []
            self._claim_one(operation, whole or alone, "path")

    def _left(self, name_of: Callable[[int], str]) -> dict[str, list[int]]:
        """Positions in the document that are not paired, by a name; those without a name are left out."""
        left = defaultdict(list)
        for index in range(len(self.described)):
            if index not in self.taken and (name := name_of(index)):
                left[name].append(index)
        return left

    def _claim_one(self, operation: Operation, positions: Sequence[int], by: By) -> None:
        """Pair with the one of several positions that is the likeliest, if there is one.

        What has the title of another operation is that one, wherever it stands.
        """
        left = [
            index
            for index in positions
            if index not in self.taken
            and _TITLES.get(plain(self.described[index].title), operation.title) == operation.title
        ]
        for likely in (
            lambda one: not one.deprecated,
            lambda one: self._fits(operation, one),
            lambda one: one.method == operation.method,
            lambda one: template(one.path) == template(operation.path),
        ):
            if len(left) > 1:
                left = [index for index in left if likely(self.described[index])] or left
        if len(left) == 1:
            self._claim(operation, left[0], by)
        elif left:
            self._leave([operation], left, f"{len(left)} operations of the document match, by {by}")

    def _tell_apart(self, operations: Sequence[Operation], positions: Sequence[int]) -> None:
        """Pair operations of one title by the parameter that only one of them has."""
        speaks_for: dict[str, list[int]] = {operation.key: [] for operation in operations}
        silent = []
        for index in positions:
            keys = [one.key for one in operations if _mentions(self.described[index], one)]
            speaks_for[keys[0]].append(index) if len(keys) == 1 else silent.append(index)
        open_ = [key for key, result in speaks_for.items() if not result]
        if len(silent) == len(open_) == 1 and len(positions) == len(operations):
            speaks_for[open_[0]] = silent
            silent = []
        for operation in operations:
            if len(speaks_for[operation.key]) == 1:
                self._claim(operation, speaks_for[operation.key][0], "title")
        left = [one for one in operations if one.key not in self.found]
        names = " and ".join(f"{{{one.path_parameters[0]}}}" for one in operations)
        self._leave(
            left,
            [index for index in positions if index not in self.taken],
            f"{len(operations)} operations have this title, and the path parameters ({names}) do not distinguish "
            "them",
        )

    def _claim(self, operation: Operation, index: int, by: By) -> None:
        one = self.described[index]
        try:
            path = fitted(operation.key, self._path(operation, one))
            check_method(operation.key, one.method, path)
        except ValueError as error:
            self._leave([operation], [index], f"found by {by}, but {error}")
            return
        self.found[operation.key] = one, path, by
        self.taken.add(index)

    def _leave(self, operations: Iterable[Operation], positions: Iterable[int], reason: str) -> None:
        for operation in operations:
            self.reasons.setdefault(operation.key, reason)
        for index in positions:
            self.refused.setdefault(index, reason)

    def _fits(self, operation: Operation, one: Described) -> bool:
        try:
            return bool(fitted(operation.key, self._path(operation, one)))
        except ValueError:
            return False

    def _path(self, operation: Operation, one: Described) -> str:
        prefix = f"/{operation.service}"
        if not self._add_prefixes or f"{prefix}/" in f"{one.server}/" or one.listed.startswith(f"{prefix}/"):
            return one.path
        return one.server + prefix + one.listed


def _at_service(one: Described) -> str:
    """The path as listed, behind the service that the server's path names, if it names one."""
    last = one.server.rpartition("/")[2]
    return f"/{last}{one.listed}" if last in SERVICES else one.listed


def _bare(operation: Operation) -> tuple[str, str]:
    return operation.method, template(without_service(operation.service, operation.path))


def _lacks_prefix(operation: Operation, path: str) -> bool:
    """Whether a path begins where the service's own paths begin, with their version."""
    return not path.startswith(f"/{operation.service}/") and bool(_VERSION.match(path))


def _mentions(one: Described, operation: Operation) -> bool:
    """Whether a path names the parameter of this operation: as a parameter, or as a segment before it."""
    parts = {plain(part) for part in one.path.split("/")}
    return any(plain(name) in parts or f"by{plain(name)}" in parts for name in operation.path_parameters)


def _match(document: Document, operation: Operation, one: Described, path: str, by: By) -> Match:
    changed: dict[str, Any] = {}
    notes: list[str] = []
    if one.method != operation.method:
        changed["method"] = one.method
    if path != operation.path:
        changed["path"] = path
    if operation.paged:
        changed |= _paging(document.query(one), notes)
    if operation.records:
        lists = document.lists(one)
        if lists and operation.records not in lists:
            if len(lists) == 1:
                changed["wrapper"] = lists[0]
            else:
                notes.append(
                    f"the response contains the lists {', '.join(lists[:5])}: set `wrapper` in the profile"
                )
    return Match(operation.key, by, one.method, path, one.title, changed, tuple(notes))


def _paging(query: Mapping[str, QueryParameter], notes: list[str]) -> dict[str, Any]:
    """The page parameters of a list, where they are not those of the table."""
    names = {plain(name): parameter for name, parameter in query.items()}
    page = next((names[plain(name)] for name in PAGE_PARAMETERS if plain(name) in names), None)
    size = next((names[plain(name)] for name in SIZE_PARAMETERS if plain(name) in names), None)
    told: dict[str, Any] = {}
    if page:
        told["page_parameter"] = page.name
        # A list read from 1 would miss its first page where pages count from 0, and nobody would see it.
        told["first_page"] = page.minimum if page.default is None else page.default
    elif query and names.keys() & {"offset", "skip", "cursor", "nexttoken"}:
        notes.append(
            "it is paginated by offset or cursor, which is not supported; its pages are requested by number"
        )
    if size:
        told["size_parameter"] = size.name
        told["largest_page"] = size.maximum
    if told.get("first_page") not in {0, 1}:
        told.pop("first_page", None)
    if (told.get("largest_page") or 0) < 1:
        told.pop("largest_page", None)
    return {name: value for name, value in told.items() if value != getattr(BUILT_IN_LISTING, name)}
