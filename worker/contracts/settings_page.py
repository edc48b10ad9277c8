"""The page of settings: every variable with its kind, its default and its meaning, from the pydantic models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from worker.config.compiled import ABOUT_COMPILED, COMPILED
from worker.config.settings import Settings
from worker.config.sources import PREFIX, SECRETS_DIR
from worker.contracts.markdown import page, table

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABOUT = f"""\
Settings are environment variables. The worker reads them from the environment, then from `.env` in the current
folder, then from a folder of secret files named like the variables (`{SECRETS_DIR}`, else `/run/secrets`); the
first source wins. A variable with the prefix `{PREFIX}` that is not listed here is an error. Values of the kind
*JSON* are written as JSON: `ORDERSYNC_POLL__INTERVALS='{{"orders": 15}}'`.

`ordersync config show` prints the settings in force, with secrets hidden. `ordersync config show --names` prints this
list.
"""
_HEAD = ("variable", "kind", "default", "meaning")
_FOLDER = "`$XDG_STATE_HOME/ordersync`, else `~/.local/state/ordersync`"
_RANGES = {
    "minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "up to {}", "exclusiveMaximum": "below {}",
}  # fmt: skip


def settings_page() -> str:
    """Return the whole page."""
    schema = Settings.model_json_schema()
    sections = schema["$defs"]
    parts: list[str] = []
    alone = [
        [f"`{SECRETS_DIR}`", "path", "`/run/secrets`", "folder of secret files"],
        [f"`{COMPILED}`", "one of `on`, `off`", "`on`", ABOUT_COMPILED],
    ]
    for name, setting in schema["properties"].items():
        if "$ref" not in setting:
            alone.append(_row(name, setting, sections))
            continue
        section = sections[setting["$ref"].rpartition("/")[2]]
        rows = [_row(f"{name}__{inner}", each, sections) for inner, each in section["properties"].items()]
        parts.append(f"## {name.capitalize()}\n\n{section['description']}\n\n{table(_HEAD, rows)}")
    return page("Settings", _ABOUT, f"## General\n\n{table(_HEAD, alone)}", *parts)


def _row(name: str, setting: Mapping[str, Any], sections: Mapping[str, Any]) -> list[str]:
    default = setting.get("default")
    shown = _FOLDER if name == "data_dir" else _shown(default)
    return [f"`{PREFIX}{name.upper()}`", _kind(setting, sections), shown, setting.get("description", "")]


def _shown(default: Any) -> str:
    if default in (None, "", {}, []):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _kind(setting: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    schema = next(each for each in setting.get("anyOf", [setting]) if each.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "password":
        return "text, secret"
    if schema.get("format") == "path":
        return "path"
    kind = schema.get("type", "")
    if kind in {"object", "array"}:
        return f"JSON: {_structure(schema, sections)}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text"}[
        kind
    ]
    limits = [text.format(_number(schema[key])) for key, text in _RANGES.items() if key in schema]
    return " ".join([words, *limits])


def _structure(schema: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    """Return the structure of a value in JSON, such as `{NAME: [text, ...]}`."""
    if "$ref" in schema:
        section = sections[schema["$ref"].rpartition("/")[2]]
        return "{" + ", ".join(section["properties"]) + "}"
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_structure(each, sections) for each in schema["anyOf"])
    if schema["type"] == "array":
        return f"[{_structure(schema['items'], sections)}, ...]"
    if schema["type"] == "object":
        return "{NAME: " + _structure(schema["additionalProperties"], sections) + "}"
    return {"string": "text", "integer": "number"}.get(schema["type"], str(schema["type"]))


def _number(value: float) -> str:
    return f"{value:,g}" if value < 1_000_000 else f"{value:,.0f}"
