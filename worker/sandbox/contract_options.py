"""Contracts from KEY=VALUE options of the command line."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from worker.sandbox.contract import ContractError, ServedContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOVED = "moved"
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NONE = "none"


def parse_contract(pairs: Iterable[str]) -> ServedContract:
    """Return a contract with these fields, and the defaults for all others.

    `none` removes a key or a limit, lists have commas between their values, and `moved.KEY=PATH` moves an operation,
    for example `moved.orders.get=/order/v1/order/{orderId}`.

    Raises:
        ContractError: A key or a value is not allowed; the message lists the allowed ones.
    """
    values: dict[str, Any] = {}
    moved: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key.startswith(f"{_MOVED}.") and equals:
            moved[key.removeprefix(f"{_MOVED}.")] = value
            continue
        reader = _READERS.get(key)
        if reader is None or not equals:
            allowed = f"KEY=VALUE with one of {', '.join(_READERS)}, {_MOVED}.OPERATION"
            raise ContractError("key", key if equals else pair, allowed)
        try:
            values[key] = reader(value)
        except ValueError:
            raise ContractError(key, value, _ALLOWED[reader]) from None
    return ServedContract(**values, moved=moved)


def _text(value: str) -> str:
    return value


def _key(value: str) -> str | None:
    return None if value == _NONE else value


def _flag(value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise ValueError(value)
    return _FLAGS[value.lower()]


def _limit(value: str) -> int | None:
    return None if value == _NONE else int(value)


def _names(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


_ALLOWED: dict[Callable[[str], Any], str] = {
    _flag: "true or false",
    int: "a whole number",
    _limit: "a whole number, or none",
    float: "a number",
}
_OF_TYPE: dict[str, Callable[[str], Any]] = {
    "bool": _flag,
    "int": int,
    "int | None": _limit,
    "float": float,
    "str | None": _key,
    "tuple[str, ...]": _names,
}
_READERS = {
    each.name: _OF_TYPE.get(str(each.type), _text) for each in fields(ServedContract) if each.name != _MOVED
}
"""The parser of each field, by the type of the field."""
