"""The contract as layers: built in, imported from an OpenAPI document, set by hand. Later layers take precedence.

No I/O. A layer contains only the values that it changes. `stack()` combines layers into a profile and records where
each value was set. `fitted()` checks a path from a file against the parameters that the operation needs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS, Operation
from worker.ordermesh.contract.profile import Case, ContractProfile, Listing, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ContractSource: TypeAlias = Literal["built in", "OpenAPI document", "set by hand"]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ROUTE_FIELDS = ("method", "path")
LISTING_FIELDS: Mapping[str, str] = Listing.__annotations__
"""The fields of a list that a file may set, with their types in `Listing`."""
BUILT_IN_LISTING = Listing()

_PARAMETER = re.compile(r"\{([^{}/]+)\}")
MAX_PATH = 500
"""Characters of a path. All paths of this API are shorter."""
# The characters that RFC 3986 allows in a path, and the braces of parameters.
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%{}-]*)*")


@dataclass(frozen=True, slots=True)
class Layer:
    """The values that one file changes in the layers below it."""

    source: ContractSource
    file: str
    """The name of the file as the user wrote it."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Prefixes by service."""
    lists: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Listing` for all lists."""
    operations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By key: `method`, `path` (with the parameter names of the table), and fields of `Listing`."""
    login_case: Case | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One value in force that differs from the built-in one."""

    place: str
    """The key of an operation, or `lists`, `prefixes` or `login` for a value that applies to several."""
    field: str
    built_in: Any
    value: Any
    source: ContractSource
    file: str


@dataclass(frozen=True, slots=True)
class Contract:
    """A profile, its layers, lowest first, and its differences from the table of operations."""

    profile: ContractProfile
    layers: tuple[Layer, ...] = ()
    differences: tuple[Difference, ...] = ()

    def source_of(self, key: str) -> ContractSource:
        """Return the source of the topmost value of operation `key` that differs."""
        sources = {item.source for item in self.differences if item.place == key}
        return next((layer.source for layer in reversed(self.layers) if layer.source in sources), "built in")


BUILT_IN = Contract(ContractProfile())
"""The contract without any file."""


def stack(layers: Sequence[Layer]) -> Contract:
    """Return the contract of the layers, lowest first, on top of the built-in table.

    Within a layer, the path of an operation takes precedence over the prefix of its service, and a field of one list
    over that of all lists. A prefix also applies to the paths of the layers below it.
    """
    prefixes = {service: (prefix, layer) for layer in layers for service, prefix in layer.prefixes.items()}
    listing = {name: (value, layer) for layer in layers for name, value in layer.lists.items()}
    cases = [(layer.login_case, layer) for layer in layers if layer.login_case is not None]
    profile = ContractProfile(
        prefixes=_values(prefixes),
        listing=msgspec.structs.replace(BUILT_IN_LISTING, **_values(listing)),
        login_case=cases[-1][0] if cases else "camel",
    )
    result: list[Difference | None] = [
        _difference("login", "login_case", ContractProfile().login_case, origin) for origin in cases[-1:]
    ]
    result += [
        _difference("prefixes", service, f"/{service}", origin) for service, origin in prefixes.items()
    ]
    result += [
        _difference("lists", name, getattr(BUILT_IN_LISTING, name), origin)
        for name, origin in listing.items()
    ]
    routes: dict[str, Route] = {}
    lists: dict[str, Listing] = {}
    for key, operation in OPERATIONS.items():
        path, method = _path(operation, layers), _last(key, "method", layers)
        if path:
            result.append(_difference(key, "path", operation.path, path))
        if method:
            result.append(_difference(key, "method", operation.method, method))
        route = Route(method[0] if method else operation.method, path[0] if path else operation.path)
        if route != profile.route(key) or _has_own_route(key, layers):
            routes[key] = route
        own_fields = _own_listing(key, layers, listing)
        if own_fields:
            lists[key] = msgspec.structs.replace(profile.listing, **_values(own_fields))
            result += [
                _difference(key, name, built_in(key, name), origin) for name, origin in own_fields.items()
            ]
    differences = tuple(item for item in result if item is not None)
    return Contract(msgspec.structs.replace(profile, routes=routes, lists=lists), tuple(layers), differences)


def fitted(key: str, path: str) -> str:
    """Return `path` with the parameter names that the table has for operation `key`.

    A single parameter may have any name. Several are matched by their names, without case and punctuation; if one
    parameter then remains on each side, these two are matched.

    Raises:
        ValueError: The path cannot be sent, or does not have the parameters that the operation needs. The message
            says why; it is a part of a sentence.

    """
    _check_path(path)
    needed, given = OPERATIONS[key].path_parameters, tuple(_PARAMETER.findall(path))
    repeated = [name for name, times in Counter(given).items() if times > 1]
    if repeated:
        raise ValueError(f"{path} has {_braced(repeated)} more than once")
    if len(given) != len(needed):
        raise ValueError(f"{path} has {_braced(given)}, and {key} needs {_braced(needed)}")
    if len(needed) == 1:
        names = {given[0]: needed[0]}
    else:
        names = _by_name(given, needed)
        unknown = [name for name in given if name not in names]
        missing = [name for name in needed if name not in names.values()]
        if len(unknown) > 1:
            raise ValueError(
                f"{_braced(unknown)} in {path} cannot be matched to {_braced(missing)}: "
                "give the parameters these names"
            )
        names.update(zip(unknown, missing, strict=True))
    return _PARAMETER.sub(lambda result: f"{{{names[result[1]]}}}", path)


def check_method(key: str, method: str, path: str) -> None:
    """Check that operation `key` may be sent like this: an operation that reads must never change data at OrderMesh.

    Raises:
        ValueError: It may not. The message says why; it is a part of a sentence.

    """
    operation = OPERATIONS[key]
    if operation.writes:
        if method == "GET":
            raise ValueError(f"{key} changes data, so its method cannot be GET")
        return
    if method in {"GET", operation.method}:
        return
    if method != "POST" or not operation.records:
        raise ValueError(f"{key} only reads, so its method cannot be {method}")
    write = next(
        (other for other in OPERATIONS.values() if other.writes and _same(other, "POST", path)), None
    )
    if write is not None:
        raise ValueError(f"POST {path} is the path of {write.key}, which changes data")


def _same(operation: Operation, method: str, path: str) -> bool:
    """True if a request is that of an operation of the table, with or without the prefix of the service."""
    full = template(operation.path)
    return operation.method == method and template(path) in {full, without_service(operation.service, full)}


def built_in(key: str, name: str) -> Any:
    """Return the built-in value of one field of an operation, or of its list."""
    if name in ROUTE_FIELDS:
        return getattr(OPERATIONS[key], name)
    return OPERATIONS[key].records if name == "wrapper" else getattr(BUILT_IN_LISTING, name)


def template(path: str) -> str:
    """Return a path for comparison: in lower case, without the names of parameters."""
    return _PARAMETER.sub("{}", path).casefold()


def without_service(service: str, path: str) -> str:
    """Return a path without the prefix of the service, if it has the prefix."""
    prefix = f"/{service}"
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def plain(text: str) -> str:
    """Return a name or title for comparison: in lower case, without spaces and punctuation."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _check_path(path: str) -> None:
    if len(path) > MAX_PATH:
        raise ValueError(f"{path[:40]!r}... is longer than {MAX_PATH} characters")
    if not path.startswith("/"):
        raise ValueError(f"{path!r} must begin with a slash")
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} contains characters that are not allowed in a path")
    if "//" in path or any(segment in {".", ".."} for segment in path.split("/")):
        raise ValueError(f"{path!r} has an empty segment, or a segment of dots only")
    if re.search(r"%2[eEfF]|%5[cC]", path):
        raise ValueError(f"{path!r} contains a percent-encoded dot or slash")
    if {"{", "}"} & set(_PARAMETER.sub("", path)):
        raise ValueError(f"{path!r} has a brace outside of a parameter: write {{name}}")


def _by_name(given: Iterable[str], needed: Iterable[str]) -> dict[str, str]:
    """Match the names that occur on both sides, once on each."""
    names = {plain(name): name for name in needed}
    counts = Counter(plain(name) for name in given)
    return {name: names[plain(name)] for name in given if plain(name) in names and counts[plain(name)] == 1}


def _braced(names: Sequence[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in names) or "no parameter"


_Origin: TypeAlias = "tuple[Any, Layer]"


def _values(origins: Mapping[str, _Origin]) -> dict[str, Any]:
    return {name: value for name, (value, _) in origins.items()}


def _difference(where: str, name: str, built_in: Any, origin: _Origin) -> Difference | None:
    value, layer = origin
    if value == built_in:
        return None
    return Difference(where, name, built_in, value, layer.source, layer.file)


def _path(operation: Operation, layers: Sequence[Layer]) -> _Origin | None:
    path, origin = operation.path, None
    for layer in layers:
        prefix = layer.prefixes.get(operation.service)
        if prefix is not None:
            path, origin = prefix + without_service(operation.service, path), layer
        own_path = layer.operations.get(operation.key, {}).get("path")
        if own_path is not None:
            path, origin = own_path, layer
    return (path, origin) if origin else None


def _last(key: str, name: str, layers: Sequence[Layer]) -> _Origin | None:
    for layer in reversed(layers):
        value = layer.operations.get(key, {}).get(name)
        if value is not None:
            return value, layer
    return None


def _has_own_route(key: str, layers: Sequence[Layer]) -> bool:
    """True if a file sets the route of this operation; a prefix that the probe finds then does not change it."""
    return any(set(ROUTE_FIELDS) & set(layer.operations.get(key, ())) for layer in layers)


def _own_listing(key: str, layers: Sequence[Layer], listing: Mapping[str, _Origin]) -> dict[str, _Origin]:
    """Return the fields of one list that differ from those of all lists."""
    result: dict[str, _Origin] = {}
    for layer in layers:
        result = {name: origin for name, origin in result.items() if name not in layer.lists}
        operation = layer.operations.get(key, {})
        result.update({name: (value, layer) for name, value in operation.items() if name in LISTING_FIELDS})
    return {name: origin for name, origin in result.items() if _values(listing).get(name) != origin[0]}
