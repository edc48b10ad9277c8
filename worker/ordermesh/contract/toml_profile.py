"""A contract profile in TOML: its tables as pydantic models, and the messages for their problems. No I/O."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ordersync_consumer.resources import nearest
from worker.ordermesh.contract.layers import LISTING_FIELDS, METHODS, Layer, built_in, fitted
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import Case, Trust

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GROUPS = {key.partition(".")[0] for key in OPERATIONS}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MAX_SHOWN = 60
"""Characters of an invalid value that a message quotes."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


# The description of a field completes the message "must be ...".
_Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
_Name = Annotated[_Text, Field(description="a name in quotes")]
_Parameters = Annotated[
    dict[_Text, _Text], Field(description='query parameters, like { sortBy = "updatedAt" }')
]
_Count = Annotated[int, Field(ge=0, le=1_000_000, description="a whole number from 0")]
_Size = Annotated[int, Field(ge=1, le=1_000_000, description="a whole number from 1")]
_Flag = Annotated[bool, Field(description="true or false")]
_Prefix = Annotated[
    str,
    Field(
        pattern="^(/[A-Za-z0-9._~-]+)*$",
        description='"" or a path like "/order", without a slash at its end',
    ),
]
_Method = Annotated[
    str,
    Field(pattern=f"^(?i:{'|'.join(METHODS)})$", description=f"one of {', '.join(METHODS)}"),
    AfterValidator(str.upper),
]


class _Table(BaseModel):
    """A table of the file. The defaults are not used: a field that is not set comes from the layers below."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Profile(_Table):
    """The top of the file."""

    openapi: str = Field("", pattern=r"\S", description='the name of a file, like "vendor.json"')
    login_case: Case = Field("camel", description='one of "camel", "snake"')
    prefixes: dict[str, Any] = Field({}, description="a table: [prefixes]")
    lists: dict[str, Any] = Field({}, description="a table: [lists]")
    operations: dict[str, Any] = Field({}, description="a table: [operations]")


class Prefixes(_Table):
    """The table `[prefixes]`."""

    user: _Prefix = ""
    order: _Prefix = ""
    note: _Prefix = ""
    catalog: _Prefix = ""
    shipment: _Prefix = ""


class Lists(_Table):
    """The table `[lists]`."""

    page_parameter: _Name = ""
    size_parameter: _Name = ""
    first_page: _Count = 0
    next_in: _Name = ""
    next_parameter: _Name = ""
    largest_page: _Size = 1
    wrapper: _Name = ""
    since_parameter: _Name = ""
    ascending: _Parameters = {}
    descending: _Parameters = {}
    status_parameter: _Name = ""
    merchant_parameter: _Name = ""
    past_end: _Name = ""
    total: Trust = Field("trusted", description='one of "trusted", "untrusted"')
    whole: _Flag = False
    capped: _Flag = False


class Operation(_Table):
    """A table of another operation. The context of the validation is its key."""

    method: _Method = ""
    path: str = Field("", description="a path in quotes")

    @field_validator("path")
    @classmethod
    def _fit(cls, path: str, info: ValidationInfo) -> str:
        return fitted(str(info.context), path)


class ListOperation(Lists, Operation):
    """A table `[operations."orders.search"]` of an operation that returns a list."""


def profile_layer(profile: Mapping[str, Any], file: str) -> tuple[Layer, list[str]]:
    """Return a decoded profile as a layer, and all its problems, each with its place and advice."""
    problems: list[str] = []
    top = _check(Profile, profile, (), problems)
    tables = {name: table for name, table in profile.items() if isinstance(table, dict)}
    prefixes = _check(Prefixes, tables.get("prefixes", {}), ("prefixes",), problems)
    lists = _check(Lists, tables.get("lists", {}), ("lists",), problems)
    operations = {}
    for key, table in _named(tables.get("operations", {})):
        place = ("operations", key)
        if key in OPERATIONS:
            model = ListOperation if OPERATIONS[key].is_list else Operation
            operations[key] = _check(model, table, place, problems)
        else:
            advice = nearest(key, OPERATIONS) or " To list them: ordersync contract show"
            problems.append(f"{_dotted(place)}: unknown operation.{advice}")
    case = top.get("login_case")
    return Layer("set by hand", file, prefixes, lists, operations, case), problems


def _named(operations: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the tables of operations by key. `[operations.orders.search]` without quotes is accepted too."""
    for name, table in operations.items():
        if name in _GROUPS and isinstance(table, dict):
            yield from ((f"{name}.{inner}", inner_table) for inner, inner_table in table.items())
        else:
            yield name, table


def _check(model: type[_Table], table: Any, place: tuple[str, ...], problems: list[str]) -> dict[str, Any]:
    """Return the values of a valid table. Otherwise add its problems to `problems`, in the order of the file."""
    try:
        checked = model.model_validate(table, context=place[-1] if place else None)
    except ValidationError as failure:
        errors = {str(error["loc"][0]): error for error in failure.errors() if error["loc"]}
    else:
        return checked.model_dump(exclude_unset=True)
    if not errors:
        problems.append(f"{_dotted(place)} must be a table: [{_dotted(place)}]")
    for name in filter(errors.__contains__, table):
        reason = str(errors[name].get("ctx", {}).get("error", ""))
        problems.append(_dotted((*place, name)) + _problem(model, place, name, table[name], reason))
    return {}


def _problem(model: type[_Table], place: tuple[str, ...], name: str, value: Any, reason: str) -> str:
    """Return the problem of a value and what to do: the end of a sentence that begins with the place."""
    known = model.model_fields
    if name in known:
        problem = f": {reason}" if reason else f" must be {known[name].description}, not {_shown(value)}"
        is_route = name in Operation.model_fields
        return f"{problem}. Built in: {built_in(place[-1], name)}" if is_route else problem
    if place and name in Profile.model_fields:
        return " must be at the top of the file. Move it before the first [table]"
    if name in LISTING_FIELDS and model is Operation:
        return f" is a field of a list, and {place[-1]} does not return one. Remove it"
    return f" is unknown here. Known names: {', '.join(known)}.{nearest(name, known)}"


def _shown(value: Any) -> str:
    text = toml(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _dotted(place: tuple[str, ...]) -> str:
    return ".".join(map(quoted, place))


def quoted(name: str) -> str:
    """Return a key in TOML syntax."""
    return name if _BARE_KEY.fullmatch(name) else toml(name)


def toml(value: Any) -> str:
    """Return a value in TOML syntax. Its strings escape the same characters as JSON, and the delete character."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(name)} = {toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
