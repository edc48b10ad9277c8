"""JSON Schemas of the files that a person writes: accounts, contract profile, fault rules. For editors.

Each is generated from the models that read the file. What only the code can check, such as a path that lacks a
parameter, is reported when the file is read.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from ordersync_consumer.resources import RESOURCES
from worker.config.sections import ApiSettings, PollSettings
from worker.config.values import ACCOUNT_NAME
from worker.ordermesh.contract import toml_profile
from worker.ordermesh.contract.layers import METHODS
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox.faults import ACTIONS, CHECKS, FaultRule

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FILE = {"type": "string", "description": "a file that contains the value; relative to this file"}


def editor_schemas() -> dict[str, dict[str, Any]]:
    """Return each schema by the name of its kind of file."""
    return {"accounts": _accounts(), "contract": _contract(), "faults": _faults()}


def _schema(name: str, title: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _DIALECT, "$id": f"urn:ordersync:{name}", "title": title, **content}


def _table(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _accounts() -> dict[str, Any]:
    api, poll = _fields(ApiSettings), _fields(PollSettings)
    api |= {"client_secret_file": _FILE, "password_file": _FILE}
    api["headers_file"] = {"type": "object", "additionalProperties": _FILE}
    for name in ("intervals", "ignore_fields"):
        poll[name] |= {"propertyNames": {"enum": list(RESOURCES)}}
    account = _table(
        {
            "api": _table(api, description="settings of ORDERSYNC_API__..., for this account"),
            "poll": _table(poll, description="settings of ORDERSYNC_POLL__..., for this account"),
            "contract_file": {"type": "string", "description": "contract profile; relative to this file"},
        },
        description="an account; what it does not set comes from the environment, except a login",
    )
    accounts = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{ACCOUNT_NAME}$"},
        "additionalProperties": account,
    }
    return _schema(
        "accounts", "Accounts of ordermesh-sync", _table({"accounts": accounts}, required=["accounts"])
    )


def _contract() -> dict[str, Any]:
    def fields(model: type[BaseModel]) -> dict[str, Any]:
        # Built-in values apply where a field is not set, not the defaults of the models.
        return {
            name: {key: value for key, value in field.items() if key != "default"}
            for name, field in _fields(model).items()
        }

    methods = {"enum": [*METHODS, *map(str.lower, METHODS)], "description": "method of the requests"}
    operations = {
        key: {"$ref": f"#/$defs/{'list' if operation.is_list else 'other'}", "description": operation.title}
        for key, operation in OPERATIONS.items()
    }
    grouped: dict[str, Any] = {}
    for key, table in operations.items():  # [operations.orders.search] without quotes is the same
        group, _, name = key.partition(".")
        grouped.setdefault(group, {})[name] = table
    tables = {
        "prefixes": _table(fields(toml_profile.Prefixes), description="begins of paths by service"),
        "lists": _table(fields(toml_profile.Lists), description="how lists are read, for all operations"),
        "operations": _table({**operations, **{group: _table(inner) for group, inner in grouped.items()}}),
    }
    kinds = {"list": toml_profile.ListOperation, "other": toml_profile.Operation}
    return _schema(
        "contract",
        "Contract profile of ordermesh-sync",
        _table(fields(toml_profile.Profile) | tables)
        | {"$defs": {name: _table(fields(model) | {"method": methods}) for name, model in kinds.items()}},
    )


def _faults() -> dict[str, Any]:
    allowed = {name: text for name, text, _ in CHECKS}
    rule = _tidy(TypeAdapter(FaultRule).json_schema())
    for name, field in rule["properties"].items():
        field["description"] = allowed[name]
    rule["properties"]["action"]["enum"] = list(ACTIONS)
    rule["properties"]["operation"]["enum"] = ["*", *OPERATIONS]
    rule["properties"]["times"] = {
        "anyOf": [{"type": "integer", "minimum": 1}, {"const": "unlimited"}],
        "description": allowed["times"],
    }
    for name, limits in _LIMITS.items():
        rule["properties"][name] |= limits
    rules = {
        "type": "array",
        "items": _table(rule["properties"], required=rule["required"]),
        "description": "the rules; the first that is due acts",
    }
    return _schema(
        "faults", "Fault rules of the sandbox of ordermesh-sync", _table({"rule": rules, "rules": rules})
    )


_LIMITS: dict[str, dict[str, float]] = {
    "page": {"minimum": 0},
    "after": {"minimum": 0},
    "probability": {"exclusiveMinimum": 0, "maximum": 1},
    "code": {"minimum": 200, "maximum": 599},
    "count": {"minimum": 1},
    "seconds": {"minimum": 0},
}


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of the fields of a model, as they may be written in TOML, which has no null."""
    properties: dict[str, Any] = _tidy(model.model_json_schema())["properties"]
    return properties


def _tidy(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names, and without null."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: value
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    if "anyOf" in kept:
        options = [option for option in kept["anyOf"] if option != {"type": "null"}]
        if len(options) == 1:
            del kept["anyOf"]
            kept |= options[0]
        else:
            kept["anyOf"] = options
    return {key: _tidy(value) for key, value in kept.items()}
