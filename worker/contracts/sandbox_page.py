"""The page of the sandbox: layouts of the API, permissions, fault rules and control requests."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from worker.contracts.markdown import code, page, table
from worker.sandbox.contract import ServedContract
from worker.sandbox.faults import ACTIONS, FaultRule
from worker.sandbox.permissions import RESOURCES, VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABOUT = """\
`ordersync sandbox` serves all operations of OrderMesh on made-up records, over real HTTP, on this machine only.
`ordersync run --sandbox` starts it together with the daemon. [Try it](../start/try-it.md) shows both.

```console
$ ordersync sandbox --orders 100 --changes-per-second 5
$ ordersync sandbox --contract page_base=0 --contract max_page_size=20 --deny shipment:get
$ ordersync sandbox --faults faults.toml --token-lifetime 60
```
"""
_CONTRACT = """\
The vendor documents only a part of the API, so the sandbox can serve other layouts: `--contract KEY=VALUE`, as often
as needed. `none` leaves a key or a limit out, a list has commas between its values, and `moved.OPERATION=PATH` moves
one operation.
"""
_PERMISSIONS = """\
`--deny RESOURCE:VERB` takes a permission away from every token; requests that need it are answered with 403.
"""
_FAULTS = """\
`--faults FILE` reads rules from a TOML or JSON file. For each request, every matching rule counts it, and the first
rule in the file that is due acts. `ordersync schema faults > faults.schema.json` writes the schema that the first line
names, for editors with TOML support.

```toml
#:schema faults.schema.json
[[rule]]
name = "busy"
operation = "orders.search"
page = 2
after = 3
times = 2
action = "status"
code = 429
retry_after = 2
```
"""
_CONTROL = """\
Requests under `/_sandbox/` need no token, and no fault rule applies to them. They are not part of OrderMesh.

```console
$ curl http://127.0.0.1:8099/_sandbox/stats
$ curl -X POST 'http://127.0.0.1:8099/_sandbox/change?n=5'
```
"""
CONTROLS = (
    ("GET", "/openapi.json", "the API as this sandbox serves it, as an OpenAPI document"),
    (
        "GET",
        "/_sandbox/stats",
        "records, tokens and requests so far, and how often each fault rule has acted",
    ),
    ("GET", "/_sandbox/requests", "the last requests"),
    ("GET", "/_sandbox/truth", "every record of a `kind` as it is, one on each line"),
    ("POST", "/_sandbox/create", "creates `n` orders"),
    ("POST", "/_sandbox/change", "changes `n` orders, or with `kind=shipments` shipments"),
    (
        "POST",
        "/_sandbox/hide",
        "lists show the records of a `kind` with these `id`s as they are now, until `show`",
    ),
    ("POST", "/_sandbox/show", "lists show the records of a `kind` as they are again"),
    ("POST", "/_sandbox/faults", "replaces the fault rules by those of the body, in JSON"),
    ("POST", "/_sandbox/deny", "takes away each `permission` (RESOURCE:VERB) and grants all others"),
)
"""The control requests; a test compares them with the routes."""


def sandbox_page() -> str:
    """Return the whole page."""
    return page(
        "Sandbox and fault rules",
        _ABOUT,
        f"## Layouts of the API\n\n{_CONTRACT}",
        table(("key", "default", "meaning"), _options(ServedContract)),
        f"## Permissions\n\n{_PERMISSIONS}",
        table(("part", "values"), [("resource", code(RESOURCES)), ("verb", code(VERBS))]),
        f"## Fault rules\n\n{_FAULTS}",
        table(("action", "what the sandbox does"), [(f"`{name}`", text) for name, text in ACTIONS.items()]),
        table(("field of a rule", "default", "meaning"), _options(FaultRule)),
        f"## Control requests\n\n{_CONTROL}",
        table(
            ("request", "effect or answer"), [(f"`{method} {path}`", text) for method, path, text in CONTROLS]
        ),
    )


def _options(of: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each field of a dataclass with its default and its meaning, which its docstring has under `Args:`."""
    meanings = _arguments(inspect.getdoc(of) or "")
    for each in fields(of):
        if each.default is not MISSING:
            yield f"`{each.name}`", _shown(each.default), meanings[each.name]
        elif each.default_factory is MISSING:
            yield f"`{each.name}`", "required", meanings[each.name]
        else:
            yield f"`{each.name}.OPERATION`", "", meanings[each.name]


def _arguments(docstring: str) -> dict[str, str]:
    section = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    return {
        found[1]: found[2] for found in re.finditer(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    }


def _shown(default: object) -> str:
    if default in (None, "", ()):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
