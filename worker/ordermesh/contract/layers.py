"""The contract as layers: built in, imported from an OpenAPI document, set by hand. The later wins.

Pure. A layer holds only what it says differently; `stack()` makes of several a profile, and knows of each value
where it was set. `fitted()` holds a path of another hand against what the operation needs.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from worker.ordermesh.contract.operations import OPERATIONS, Operation
from worker.ordermesh.contract.profile import Case, ContractProfile, Listing, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ContractSource: TypeAlias = Literal["built in", "OpenAPI document", "set by hand"]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ROUTE_FIELDS = ("method", "path")
LISTING_FIELDS = {item.name: str(item.type) for item in fields(Listing)}
"""What may be set of a list, and the type of each as `Listing` writes it."""
BUILT_IN_LISTING = Listing()

_PARAMETER = re.compile(r"\{([^{}/]+)\}")
MAX_PATH = 500
"""Characters of a path; a longer one is no path of this API."""
# What RFC 3986 lets stand in a path, and the braces of its parameters.
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%{}-]*)*")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one file says differently from the layers under it.

    `file` is its name as the user knows it. `lists` holds fields of `Listing` for all lists, `operations` by key
    `method`, `path` (with the table's names for its parameters) and fields of `Listing`.
    """

    source: ContractSource
    file: str
    prefixes: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, Any] = field(default_factory=dict)
    operations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    login_case: Case | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One value in force that is not the built-in one.

    `place` is an operation's key, or `lists`, `prefixes` or `login` for what holds for more than one.
    """

    place: str
    field: str
    built_in: Any
    value: Any
    source: ContractSource
    file: str


@dataclass(frozen=True, slots=True)
class Contract:
    """A profile, the layers that it was made of, lowest first, and everything that differs from the table."""

    profile: ContractProfile
    layers: tuple[Layer, ...] = ()
    differences: tuple[Difference, ...] = ()

    def source_of(self, key: str) -> ContractSource:
        """Where the highest value of operation `key` that differs was set."""
        sources = {item.source for item in self.differences if item.place == key}
        return next((layer.source for layer in reversed(self.layers) if layer.source in sources), "built in")


BUILT_IN = Contract(ContractProfile())
"""What holds where no file says anything."""


def stack(layers: Sequence[Layer]) -> Contract:
    """The contract that the layers, lowest first, come to on top of the built-in table.

    Within a layer a path set for one operation wins over the prefix of its service, and a field set for one list
    over that of all lists. A prefix applies to the paths of the layers below it as well.
    """
    prefixes = {service: (prefix, layer) for layer in layers for service, prefix in layer.prefixes.items()}
    listing = {name: (value, layer) for layer in layers for name, value in layer.lists.items()}
    cases = [(layer.login_case, layer) for layer in layers if layer.login_case is not None]
    profile = ContractProfile(
        prefixes=_values(prefixes),
        listing=replace(BUILT_IN_LISTING, **_values(listing)),
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
        if route != profile.route(key) or _set_alone(key, layers):
            routes[key] = route
        own = _own_listing(key, layers, listing)
        if own:
            lists[key] = replace(profile.listing, **_values(own))
            result += [_difference(key, name, built_in(key, name), origin) for name, origin in own.items()]
    differences = tuple(item for item in result if item is not None)
    return Contract(replace(profile, routes=routes, lists=lists), tuple(layers), differences)


def fitted(key: str, path: str) -> str:
    """`path` with the parameter names that the table has for operation `key`.

    One parameter is taken for the one that is needed, whatever it is called. Several are told apart by their
    names, without case and punctuation; one that is left then goes to the one that is left.

    Raises:
        ValueError: It cannot be sent, or has not the parameters that the operation needs; the message is a part
            of a sentence that says why.

    """
    _check_path(path)
    needed, given = OPERATIONS[key].path_parameters, tuple(_PARAMETER.findall(path))
    twice = [name for name, times in Counter(given).items() if times > 1]
    if twice:
        raise ValueError(f"{path} has {_braced(twice)} more than once")
    if len(given) != len(needed):
        raise ValueError(f"{path} has {_braced(given)}, and {key} needs {_braced(needed)}")
    if len(needed) == 1:
        names = {given[0]: needed[0]}
    else:
        names = _by_name(given, needed)
        left = [name for name in given if name not in names]
        open_ = [name for name in needed if name not in names.values()]
        if len(left) > 1:
            raise ValueError(
                f"{_braced(left)} in {path} cannot be matched to {_braced(open_)}: give the parameters these names"
            )
        names.update(zip(left, open_, strict=True))
    return _PARAMETER.sub(lambda result: f"{{{names[result[1]]}}}", path)


def check_method(key: str, method: str, path: str) -> None:
    """Whether operation `key` may be sent like this: what reads must never change anything at OrderMesh.

    Raises:
        ValueError: It may not; the message is a part of a sentence that says why.

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
    """Whether a request is that of an operation of the table, with or without the service's prefix."""
    whole = template(operation.path)
    return operation.method == method and template(path) in {whole, without_service(operation.service, whole)}


def built_in(key: str, name: str) -> Any:
    """What the table says of one field of an operation, or of the list that it is."""
    if name in ROUTE_FIELDS:
        return getattr(OPERATIONS[key], name)
    return OPERATIONS[key].records if name == "wrapper" else getattr(BUILT_IN_LISTING, name)


def template(path: str) -> str:
    """A path without what does not matter when two are compared: case, and the names of parameters."""
    return _PARAMETER.sub("{}", path).casefold()


def without_service(service: str, path: str) -> str:
    """A path without the service's prefix, if it has it."""
    prefix = f"/{service}"
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def plain(text: str) -> str:
    """A name or title without what does not matter when two are compared: case, spaces, punctuation."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name that is like `name`, or nothing."""
    close = difflib.get_close_matches(name[:100], list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


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
    """The names that are there on both sides, once on each."""
    ours = {plain(name): name for name in needed}
    names = Counter(plain(name) for name in given)
    return {name: ours[plain(name)] for name in given if plain(name) in ours and names[plain(name)] == 1}


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
        own = layer.operations.get(operation.key, {}).get("path")
        if own is not None:
            path, origin = own, layer
    return (path, origin) if origin else None


def _last(key: str, name: str, layers: Sequence[Layer]) -> _Origin | None:
    for layer in reversed(layers):
        value = layer.operations.get(key, {}).get(name)
        if value is not None:
            return value, layer
    return None


def _set_alone(key: str, layers: Sequence[Layer]) -> bool:
    """Whether a file names the route of this operation, so that a prefix found later does not move it."""
    return any(set(ROUTE_FIELDS) & set(layer.operations.get(key, ())) for layer in layers)


def _own_listing(key: str, layers: Sequence[Layer], listing: Mapping[str, _Origin]) -> dict[str, _Origin]:
    """The fields of one list that are not those of all lists."""
    own: dict[str, _Origin] = {}
    for layer in layers:
        own = {name: origin for name, origin in own.items() if name not in layer.lists}
        one = layer.operations.get(key, {})
        own.update({name: (value, layer) for name, value in one.items() if name in LISTING_FIELDS})
    return {name: origin for name, origin in own.items() if _values(listing).get(name) != origin[0]}
