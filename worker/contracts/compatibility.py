"""What a published schema promises, and whether a later one keeps it.

A promise is a flat map: each field by its path (`items[].images[].url`) with what it may be. It is written down for
every schema when it is released, and whoever breaks it has to publish another version of the schema:

- a field may be added, if it need not be there: events that were written before do not have it;
- a union may get another kind;
- a field may not go, and may not become something else, not even more of the same;
- a field that is always there stays so;
- the fields of the envelope keep their order, with new ones behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Promise: TypeAlias = dict[str, str]
"""What each field of a schema may be, by its path."""

ORDER = "(order)"
"""The place of a promise where the order of the top-level fields stands."""
ALWAYS = ", always there"
_LIMITS = ("const", "enum", "pattern", "format")


def promise_of(schema: Mapping[str, Any], *, ordered: bool = False) -> Promise:
    """What a JSON Schema promises. `ordered`: the order of its fields counts, as in a stream entry."""
    promise = dict(sorted(_fields(schema, schema, "")))
    if ordered:
        promise[ORDER] = " ".join(schema["properties"])
    return promise


def broken(released: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """How a schema breaks what was promised, a sentence for each field; none if it is kept."""
    said = []
    for path, was in released.items():
        if path == ORDER:
            if now.get(path, "").split(" ")[: len(was.split(" "))] != was.split(" "):
                said.append(f"the order of the fields was {was} and is now {now.get(path, 'not kept')}")
        elif path not in now:
            said.append(f"{path} is gone")
        elif now[path] != was:
            said.append(f"{path} was {was} and is now {now[path]}")
    said += [
        f"{path} is new and {now[path].partition(', ')[2]}: events from before do not have it"
        for path in now.keys() - released.keys()
        if now[path].endswith(ALWAYS) and _parent(path) in {"", *released}
    ]
    return sorted(said)


def _fields(schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """The fields of an object schema, and of what is in them. Of a union: those of each of its kinds, by their name."""
    for reference in schema.get("oneOf", ()):
        name = reference["$ref"].rpartition("/")[2]
        yield f"{at}{name}", "one of them"
        yield from _fields(_resolved(reference, root), root, f"{at}{name}.")
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        yield from _field(inner, root, f"{at}{name}", ALWAYS if name in required else "")


def _field(
    schema: Mapping[str, Any], root: Mapping[str, Any], path: str, always: str
) -> Iterator[tuple[str, str]]:
    schema = _resolved(schema, root)
    yield path, _kind(schema) + always
    if "items" in schema:
        yield from _field(schema["items"], root, f"{path}[]", "")
    yield from _fields(schema, root, f"{path}.")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    result: Any = root
    for name in reference.removeprefix("#/").split("/"):
        result = result[name]
    return _resolved(result, root)


def _parent(path: str) -> str:
    """Return the path of what a field is in; "" for a field at the top."""
    return path.rpartition(".")[0].removesuffix("[]")


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    type_ = schema.get("type", [])
    kinds = " or ".join([type_] if isinstance(type_, str) else type_)
    limits = [f"{name} {schema[name]}" for name in _LIMITS if name in schema]
    return " ".join([kinds, *limits] if kinds else limits) or "any"
