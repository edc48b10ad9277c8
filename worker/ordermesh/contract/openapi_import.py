"""Matching an OpenAPI document with the 79 operations: which of them it describes, and what differs from the table.

No I/O. Operations are matched by title, then by their key as operationId, then by method and path. A path is the path
of the server followed by the listed path. An operation whose match is ambiguous, or whose path could not be sent, is
left unmatched with the reason, and keeps its built-in path.
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
from worker.ordermesh.contract.names import LINK_FIELDS, TOKEN_FIELDS, TOKEN_PARAMETERS
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
"""Names of page parameters, the most likely ones first; compared without case and punctuation."""

_VERSION = re.compile(r"/v[0-9]+(/|$)")

_TITLES = {plain(operation.title): operation.title for operation in OPERATIONS.values()}

NOT_DESCRIBED = (
    "the document has no operation with this title, with this key as operationId, or with this method "
    "and path"
)


@dataclass(frozen=True, slots=True)
class Match:
    """An operation of the table and its match in the document."""

    key: str
    by: By
    """How it was matched."""
    method: str
    path: str
    """The path in the document, with the parameter names of the table."""
    title: str
    changed: Mapping[str, Any] = field(default_factory=dict)
    """The values that differ from the table: `method`, `path` and fields of `Listing`."""
    notes: tuple[str, ...] = ()
    """What the document leaves open."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An operation of the table that the document does not contain, or not in a usable form."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An operation of the document that was not matched. Without a reason, the table has no such operation."""

    method: str
    path: str
    title: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import, each part in the order of the table or of the document."""

    title: str
    version: str
    matched: tuple[Match, ...]
    missing: tuple[Missing, ...]
    unknown: tuple[Unknown, ...]
    servers: tuple[str, ...]
    """The paths of the servers, which precede the listed paths."""
    unprefixed: tuple[str, ...]
    """The services whose paths lack the prefix that they have in the table."""

    @property
    def operations(self) -> dict[str, Mapping[str, Any]]:
        """The differences from the table, by key, as in a layer of a contract."""
        return {match.key: match.changed for match in self.matched if match.changed}


def import_document(root: Any, *, add_prefixes: bool = False) -> Imported:
    """Match a decoded document with the table.

    Args:
        root: The document.
        add_prefixes: Add the prefix of the service to paths that are listed without it. A portal may list the paths
            of the service, to which the gateway adds the prefix (docs/reference/api-facts.md, 1.1).

    Raises:
        NotOpenApi: It is not an OpenAPI document, or describes no operation.

    """
    document = document_of(root)
    matching = _Matching(tuple(document.operations()), add_prefixes=add_prefixes)
    matching.by_title()
    matching.by_operation_id()
    matching.by_path()
    matched = tuple(
        _match(document, OPERATIONS[key], *matching.pairs[key]) for key in OPERATIONS if key in matching.pairs
    )
    bare = (
        OPERATIONS[match.key].service for match in matched if _lacks_prefix(OPERATIONS[match.key], match.path)
    )
    return Imported(
        title=document.title,
        version=document.version,
        matched=matched,
        missing=tuple(
            Missing(key, matching.reasons.get(key, NOT_DESCRIBED))
            for key in OPERATIONS
            if key not in matching.pairs
        ),
        unknown=tuple(
            Unknown(described.method, described.path, described.title, matching.rejected.get(index, ""))
            for index, described in enumerate(matching.described)
            if index not in matching.paired
        ),
        servers=tuple(dict.fromkeys(each.server for each in matching.described if each.server)),
        unprefixed=tuple(dict.fromkeys(bare)),
    )


class _Matching:
    """The pairs of an operation of the table and one of the document.

    A pair is final: each of the three methods considers only the operations that are not paired yet.
    """

    def __init__(self, described: tuple[Described, ...], *, add_prefixes: bool) -> None:
        self.described = described
        self.pairs: dict[str, tuple[Described, str, By]] = {}
        """By key: the operation of the document, its path with the names of the table, and how it was matched."""
        self.paired: set[int] = set()
        """The indexes of the paired operations of the document."""
        self.reasons: dict[str, str] = {}
        """By key: why an operation of the table is not paired."""
        self.rejected: dict[int, str] = {}
        """By index: why an operation of the document is not paired."""
        self._add_prefixes = add_prefixes

    def by_title(self) -> None:
        """Match by title, without case, punctuation and spaces."""
        indexes_of = self._unpaired(lambda index: plain(self.described[index].title))
        operations_of = defaultdict(list)
        for operation in OPERATIONS.values():
            operations_of[plain(operation.title)].append(operation)
        for title, operations in operations_of.items():
            indexes = indexes_of.get(title, [])
            if len(operations) == 1:
                self._pair_likeliest(operations[0], indexes, "title")
            elif indexes:
                self._pair_same_titles(operations, indexes)

    def by_operation_id(self) -> None:
        """Match by the key with any punctuation: `orders.search`, `orders_search`, `OrdersSearch`."""
        indexes_of = self._unpaired(lambda index: plain(self.described[index].operation_id))
        for key, operation in OPERATIONS.items():
            if key not in self.pairs:
                self._pair_likeliest(operation, indexes_of.get(plain(key), []), "operationId")

    def by_path(self) -> None:
        """Match by method and path, without the names of parameters, with or without the prefix of the service.

        Without a prefix, two services may have the same path; such a path is not used.
        """
        indexes_of = defaultdict(list)
        for index, described in enumerate(self.described):
            if index not in self.paired:
                for path in {template(described.path), template(_service_path(described))}:
                    indexes_of[described.method, path].append(index)
        keys_of = defaultdict(list)
        for operation in OPERATIONS.values():
            keys_of[_bare(operation)].append(operation.key)
        for key, operation in OPERATIONS.items():
            if key in self.pairs:
                continue
            full = indexes_of.get((operation.method, template(operation.path)), [])
            bare = indexes_of.get(_bare(operation), []) if len(keys_of[_bare(operation)]) == 1 else []
            self._pair_likeliest(operation, full or bare, "path")

    def _unpaired(self, name_of: Callable[[int], str]) -> dict[str, list[int]]:
        """Return the indexes of the unpaired operations of the document by name, without those that have no name."""
        result = defaultdict(list)
        for index in range(len(self.described)):
            if index not in self.paired and (name := name_of(index)):
                result[name].append(index)
        return result

    def _pair_likeliest(self, operation: Operation, indexes: Sequence[int], by: By) -> None:
        """Pair an operation with the most likely of several operations of the document, if there is one.

        An operation of the document with the title of another operation of the table is never used.
        """
        candidates = [
            index
            for index in indexes
            if index not in self.paired
            and _TITLES.get(plain(self.described[index].title), operation.title) == operation.title
        ]
        for is_likely in (
            lambda described: not described.deprecated,
            lambda described: self._fits(operation, described),
            lambda described: described.method == operation.method,
            lambda described: template(described.path) == template(operation.path),
        ):
            if len(candidates) > 1:
                candidates = [index for index in candidates if is_likely(self.described[index])] or candidates
        if len(candidates) == 1:
            self._pair(operation, candidates[0], by)
        elif candidates:
            self._reject(
                [operation], candidates, f"{len(candidates)} operations of the document match, by {by}"
            )

    def _pair_same_titles(self, operations: Sequence[Operation], indexes: Sequence[int]) -> None:
        """Pair operations with the same title by the parameter that only one of them has."""
        indexes_of: dict[str, list[int]] = {operation.key: [] for operation in operations}
        undecided = []
        for index in indexes:
            keys = [each.key for each in operations if _mentions(self.described[index], each)]
            indexes_of[keys[0]].append(index) if len(keys) == 1 else undecided.append(index)
        unmatched = [key for key, result in indexes_of.items() if not result]
        if len(undecided) == len(unmatched) == 1 and len(indexes) == len(operations):
            indexes_of[unmatched[0]] = undecided
            undecided = []
        for operation in operations:
            if len(indexes_of[operation.key]) == 1:
                self._pair(operation, indexes_of[operation.key][0], "title")
        unpaired = [each for each in operations if each.key not in self.pairs]
        names = " and ".join(f"{{{each.path_parameters[0]}}}" for each in operations)
        self._reject(
            unpaired,
            [index for index in indexes if index not in self.paired],
            f"{len(operations)} operations have this title, and the path parameters ({names}) do not distinguish "
            "them",
        )

    def _pair(self, operation: Operation, index: int, by: By) -> None:
        described = self.described[index]
        try:
            path = fitted(operation.key, self._path(operation, described))
            check_method(operation.key, described.method, path)
        except ValueError as error:
            self._reject([operation], [index], f"found by {by}, but {error}")
            return
        self.pairs[operation.key] = described, path, by
        self.paired.add(index)

    def _reject(self, operations: Iterable[Operation], indexes: Iterable[int], reason: str) -> None:
        for operation in operations:
            self.reasons.setdefault(operation.key, reason)
        for index in indexes:
            self.rejected.setdefault(index, reason)

    def _fits(self, operation: Operation, described: Described) -> bool:
        try:
            return bool(fitted(operation.key, self._path(operation, described)))
        except ValueError:
            return False

    def _path(self, operation: Operation, described: Described) -> str:
        prefix = f"/{operation.service}"
        has_prefix = f"{prefix}/" in f"{described.server}/" or described.listed.startswith(f"{prefix}/")
        if not self._add_prefixes or has_prefix:
            return described.path
        return described.server + prefix + described.listed


def _service_path(described: Described) -> str:
    """Return the listed path, with the service as prefix if the path of the server ends with one."""
    last = described.server.rpartition("/")[2]
    return f"/{last}{described.listed}" if last in SERVICES else described.listed


def _bare(operation: Operation) -> tuple[str, str]:
    return operation.method, template(without_service(operation.service, operation.path))


def _lacks_prefix(operation: Operation, path: str) -> bool:
    """True if a path begins with the version, without the prefix of the service."""
    return not path.startswith(f"/{operation.service}/") and bool(_VERSION.match(path))


def _mentions(described: Described, operation: Operation) -> bool:
    """True if a path has the name of a parameter of this operation, as a parameter or as the segment before it."""
    parts = {plain(part) for part in described.path.split("/")}
    return any(plain(name) in parts or f"by{plain(name)}" in parts for name in operation.path_parameters)


def _match(document: Document, operation: Operation, described: Described, path: str, by: By) -> Match:
    changed: dict[str, Any] = {}
    notes: list[str] = []
    if described.method != operation.method:
        changed["method"] = described.method
    if path != operation.path:
        changed["path"] = path
    if operation.paged or operation.is_log:
        changed |= _paging(document.query(described), document.fields(described), notes)
    if operation.records:
        lists = document.lists(described)
        if lists and operation.records not in lists:
            if len(lists) == 1:
                changed["wrapper"] = lists[0]
            else:
                notes.append(
                    f"the response contains the lists {', '.join(lists[:5])}: set `wrapper` in the profile"
                )
    return Match(operation.key, by, described.method, path, described.title, changed, tuple(notes))


def _paging(query: Mapping[str, QueryParameter], fields: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """Return the page parameters of a list that differ from the built-in ones; `fields`: those of its response."""
    names = {plain(name): parameter for name, parameter in query.items()}
    page = next((names[plain(name)] for name in PAGE_PARAMETERS if plain(name) in names), None)
    size = next((names[plain(name)] for name in SIZE_PARAMETERS if plain(name) in names), None)
    result: dict[str, Any] = {}
    if page:
        result["page_parameter"] = page.name
        # If pages count from 0 and the worker counted from 1, it would miss the first page without any error.
        result["first_page"] = page.minimum if page.default is None else page.default
    elif continuation := _continuation(names, fields):
        result |= continuation
    elif names.keys() & {"offset", "skip", *map(plain, TOKEN_PARAMETERS)}:
        notes.append(
            "it is paginated by offset or cursor, and its response does not name the next page: its pages are "
            "requested by number. If they have no numbers, set `next_in` and `next_parameter` in the profile"
        )
    if size:
        result["size_parameter"] = size.name
        result["largest_page"] = size.maximum
    if result.get("first_page") not in {0, 1}:
        result.pop("first_page", None)
    if (result.get("largest_page") or 0) < 1:
        result.pop("largest_page", None)
    return {name: value for name, value in result.items() if value != getattr(BUILT_IN_LISTING, name)}


def _continuation(names: Mapping[str, QueryParameter], fields: Sequence[str]) -> dict[str, Any]:
    """Return how the list continues: by a token that a parameter takes, or by the address of the next page."""
    token = next((names[plain(name)] for name in TOKEN_PARAMETERS if plain(name) in names), None)
    last = {name: plain(name.rpartition(".")[2]) for name in fields}
    if token is not None:
        known = {plain(name) for name in (token.name, *TOKEN_FIELDS)}
        place = next((name for name in fields if last[name] in known), None)
        return {"next_in": place, "next_parameter": token.name} if place else {}
    links = {plain(name) for name in LINK_FIELDS}
    place = next((name for name in fields if name in LINK_FIELDS or last[name] in links), None)
    return {"next_in": place} if place else {}
