"""Reading an OpenAPI document (3.x, or Swagger 2.0) that may be incomplete, wrong or hostile.

It reads only the parts that the contract needs, and never traverses the whole document: references may form cycles, and
YAML aliases can make a small file a very large tree. A value that does not have the type in the specification counts as
missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeGuard
from urllib.parse import unquote, urlsplit

from worker.ordermesh.contract.layers import METHODS

MAX_TITLE = 500
"""Characters of a title, an address or a reference that are read. Those of OrderMesh are shorter."""
MAX_NAME = 100
MAX_PARAMETERS = 500
MAX_DEPTH = 2
"""Objects within one another whose fields are read."""
MAX_HOPS = 10
"""References of a chain that are followed."""
MAX_SCHEMAS = 2_000
"""Schemas and properties that are read to find the lists of one response."""


class NotOpenApi(ValueError):
    """The document cannot be used at all; the message says why."""


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """One query parameter, with its default and limits if these are whole numbers."""

    name: str
    default: int | None = None
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """One operation of a document."""

    method: str
    listed: str
    """The path as listed in the document."""
    server: str
    """The path of the server, which precedes the listed path."""
    title: str
    operation_id: str
    deprecated: bool
    node: Mapping[str, Any] = field(repr=False, compare=False)
    item: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """The path at the gateway according to the document."""
        return self.server + self.listed


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document."""

    root: Mapping[str, Any] = field(repr=False)
    version: str
    """The version as in the document: `3.1.0`, or `2.0` for Swagger."""
    title: str

    @property
    def swagger(self) -> bool:
        """True for Swagger 2.0, the predecessor of OpenAPI 3."""
        return self.version.startswith("2.")

    def operations(self) -> Iterator[Described]:
        """Yield every operation, in the order of the document."""
        root_server = self._base_path() if self.swagger else self._server(self.root)
        for listed, entry in _mapping(self.root.get("paths")).items():
            item = self.resolve(entry)
            if not isinstance(listed, str) or not item:
                continue
            item_server = self._server(item, root_server)
            for name, inner in item.items():
                node = self.resolve(inner)
                if isinstance(name, str) and name.upper() in METHODS and isinstance(inner, Mapping):
                    yield Described(
                        method=name.upper(),
                        listed=listed,
                        server=self._server(node, item_server),
                        title=_text(node.get("summary")),
                        operation_id=_text(node.get("operationId")),
                        deprecated=node.get("deprecated") is True,
                        node=node,
                        item=item,
                    )

    def query(self, described: Described) -> dict[str, QueryParameter]:
        """Return the query parameters of an operation by name; they take precedence over those of its path."""
        result = {}
        for node in (described.item, described.node):
            for entry in _list(node.get("parameters"))[:MAX_PARAMETERS]:
                parameter = self.resolve(entry)
                name = parameter.get("name")
                if parameter.get("in") == "query" and _is_name(name):
                    schema = parameter if self.swagger else self.resolve(parameter.get("schema"))
                    limits = (_whole(schema.get(key)) for key in ("default", "minimum", "maximum"))
                    result[name] = QueryParameter(name, *limits)
        return result

    def lists(self, described: Described) -> tuple[str, ...] | None:
        """Return the names of the top-level lists of the success response; None if it has no schema."""
        schema = self._response_schema(described)
        if not schema:
            return None
        lists: dict[str, None] = {}
        pending, left = deque([schema]), MAX_SCHEMAS
        while pending and left > 0:
            part = self.resolve(pending.popleft())
            properties = list(islice(_mapping(part.get("properties")).items(), left))
            left -= 1 + len(properties)
            # A page of records may use `allOf` to combine a common schema and its list.
            pending += _list(part.get("allOf"))[: max(left, 0)]
            for name, inner in properties:
                if _is_name(name) and self._is_list(inner):
                    lists[name] = None
        return tuple(lists)

    def fields(self, described: Described) -> tuple[str, ...]:
        """Return the names of the fields of the success response, those of nested objects with dots."""
        result: dict[str, None] = {}
        pending = deque([("", self._response_schema(described))])
        left = MAX_SCHEMAS
        while pending and left > 0:
            outer, schema = pending.popleft()
            part = self.resolve(schema)
            properties = list(islice(_mapping(part.get("properties")).items(), left))
            left -= 1 + len(properties)
            pending += [(outer, inner) for inner in _list(part.get("allOf"))[: max(left, 0)]]
            for name, inner in properties:
                if _is_name(name) and not self._is_list(inner):
                    result[outer + name] = None
                    if outer.count(".") < MAX_DEPTH:
                        pending.append((f"{outer}{name}.", inner))
        return tuple(result)

    def resolve(self, node: Any) -> Mapping[Any, Any]:
        """Return `node`, or the target of its reference within this document; empty if that is not an object."""
        for _ in range(MAX_HOPS):
            if not isinstance(node, Mapping):
                return {}
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            node = self._target(reference)
        return {}

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#/") or len(reference) > MAX_TITLE:
            return None  # a reference to another file or to an address is not followed
        node: Any = self.root
        for part in reference[2:].split("/"):
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping):
                node = node.get(name)
            elif isinstance(node, list) and name.isascii() and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node

    def _response_schema(self, described: Described) -> Mapping[str, Any]:
        """Return the schema of the first success response that has one."""
        responses = {
            str(status).upper(): node for status, node in _mapping(described.node.get("responses")).items()
        }
        for status in ("200", "201", "2XX"):
            response = self.resolve(responses.get(status))
            if self.swagger:
                schema = self.resolve(response.get("schema"))
            else:
                content = _mapping(response.get("content"))
                kinds = sorted(
                    (kind for kind in content if isinstance(kind, str) and ("json" in kind or "*" in kind)),
                    key=lambda kind: kind != "application/json",
                )
                schema = self.resolve(_mapping(content[kinds[0]]).get("schema")) if kinds else {}
            if schema:
                return schema
        return {}

    def _is_list(self, node: Any) -> bool:
        schema = self.resolve(node)
        kind = schema.get("type", "array" if "items" in schema else None)
        return kind == "array" or (isinstance(kind, list) and "array" in kind)

    def _base_path(self) -> str:
        return _path_part(_text(self.root.get("basePath")))

    def _server(self, node: Mapping[str, Any], default: str = "") -> str:
        """Return the path of the first server of a node, or the default if the node has no server."""
        servers = _list(node.get("servers"))
        if not servers:
            return default
        server = _mapping(servers[0])
        address = _text(server.get("url"))
        for name, variable in islice(_mapping(server.get("variables")).items(), MAX_PARAMETERS):
            address = address.replace(f"{{{name}}}", _text(_mapping(variable).get("default")))[:MAX_TITLE]
        return _path_part(address)


def document_of(root: Any) -> Document:
    """Return a decoded file as a document.

    Raises:
        NotOpenApi: The file is not an OpenAPI document, has an unknown version, or has no operation.

    """
    if not isinstance(root, Mapping):
        raise NotOpenApi("it is not an OpenAPI document: its top level is not an object")
    version = root.get("openapi", root.get("swagger"))
    if not isinstance(version, str | int | float):
        raise NotOpenApi("it is not an OpenAPI document: its top level has no `openapi` or `swagger`")
    if not str(version).startswith("3." if "openapi" in root else "2."):
        raise NotOpenApi(
            f"its version is {str(version)[:20]!r}. Supported versions: OpenAPI 3.0, 3.1 and Swagger 2.0"
        )
    document = Document(root, str(version)[:20], _text(_mapping(root.get("info")).get("title")))
    if next(document.operations(), None) is None:
        raise NotOpenApi(
            "it describes no operations: `paths` is missing or empty. Export it again with its paths"
        )
    return document


def _path_part(address: str) -> str:
    """Return the path of an address: `/api` for `https://host/api/`, `/api/` and `api`."""
    try:
        path = urlsplit(address).path.strip("/")
    except ValueError:
        return ""
    return f"/{path}" if path else ""


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:MAX_TITLE] if isinstance(value, str) else ""


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value) if abs(value) <= 1_000_000 else None
