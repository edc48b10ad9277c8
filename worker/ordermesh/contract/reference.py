"""The reference of the API, rendered from the table of operations and the table of schemas.

Pure functions: `markdown()` is the whole reference as one page, `data()` the same as plain data for commands that
print JSON. The site has a page for each service, made of the same sections: `worker/contracts/contract_pages.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from worker.ordermesh.contract.operations import OPERATIONS, SERVICES
from worker.ordermesh.schemas import PAGES, SCHEMAS, element, schemas_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.ordermesh.contract.operations import Operation
    from worker.ordermesh.schemas import Field, Schema

DOCUMENTED_QUERY: dict[str, tuple[str, ...]] = {
    "users.login": ("source",),
    "merchant_catalogs.effective_variants": ("page", "pageSize"),
}
"""The query parameters that a sample of the vendor shows, by operation; all others are inferred."""

NOT_DOCUMENTED = "fields not documented"
ABOUT_SCHEMAS = (
    "Every schema that the vendor's portal names. A field marked with `!` is always present and not null; every other "
    "field may be missing or null, and unknown fields pass through."
)

_PAGE_OF_SOURCE = re.compile(r"vendor:[\w-]+")


def data() -> dict[str, Any]:
    """Return the whole reference as plain data: counts, operations and schemas, in the order of the page."""
    return {
        "counts": counts(),
        "operations": [operation_data(item) for item in OPERATIONS.values()],
        "schemas": [schema_data(each) for each in SCHEMAS.values()],
    }


def counts() -> dict[str, int]:
    """Return how much of the contract is documented."""
    operations, schemas = OPERATIONS.values(), SCHEMAS.values()
    return {
        "operations": len(operations),
        "paths_documented": sum(item.documented for item in operations),
        "methods_documented": sum(each.method_documented for each in operations),
        "schemas": len(schemas),
        "schemas_with_fields": sum(bool(each.fields) for each in schemas),
        "schemas_documented": sum(each.documented for each in schemas),
    }


def operation_data(operation: Operation) -> dict[str, Any]:
    """Return one operation as plain data."""
    documented = DOCUMENTED_QUERY.get(operation.key, ())
    return {
        "key": operation.key,
        "title": operation.title,
        "service": operation.service,
        "tag": operation.tag,
        "method": operation.method,
        "method_documented": operation.method_documented,
        "path": operation.path,
        "path_documented": operation.documented,
        "confidence": operation.confidence,
        "alternatives": list(operation.alternatives),
        "path_parameters": list(operation.path_parameters),
        "query": [{"name": name, "documented": name in documented} for name in operation.query],
        "body": list(body_fields(operation)),
        "request": operation.request,
        "answer": operation.answer,
        "list_key": operation.records,
        "record_key": operation.record,
        "writes": operation.writes,
        "client": client_method(operation),
        "page": operation.page,
        "note": operation.note,
    }


def schema_data(schema: Schema) -> dict[str, Any]:
    """Return one schema as plain data."""
    return {
        "name": schema.name,
        "services": list(schema.services),
        "type": schema.type,
        "documented": schema.documented,
        "fields": [
            {
                "name": item.name,
                "type": item.type,
                "required": item.required,
                "nullable": item.nullable,
                "documented": item.documented,
                "source": item.source,
            }
            for item in schema.fields
        ],
        "note": schema.note,
    }


def client_method(operation: Operation) -> str:
    """Return the method of the client that calls an operation."""
    return f"client.{operation.key}"


def body_fields(operation: Operation) -> tuple[str, ...]:
    """Return the known names of the fields of its body."""
    known = SCHEMAS[operation.request].fields if operation.request else ()
    return tuple(item.name for item in known) or operation.body


def markdown() -> str:
    """Return the whole reference as one page."""
    parts = [f"# The OrderMesh contract\n\n{introduction()}"]
    for service in SERVICES:
        operations = [each for each in OPERATIONS.values() if each.service == service]
        parts.append(f"## {service.capitalize()} service\n\n{overview(operations)}")
        parts += [operation_markdown(each) for each in operations]
    parts.append(f"## Schemas\n\n{ABOUT_SCHEMAS}")
    for service in SERVICES:
        links = ", ".join(_link(each.name) for each in schemas_of(service))
        parts.append(f"**{service.capitalize()}**: {links}")
    parts += [schema_markdown(item) for item in SCHEMAS.values()]
    parts.append(sources())
    return "\n\n".join(parts) + "\n"


def operation_markdown(operation: Operation) -> str:
    """Return the section of one operation."""
    path = "documented" if operation.documented else f"inferred, {operation.confidence} confidence"
    if operation.alternatives:
        path += "; also possible: " + _code(operation.alternatives)
    rows = {
        "Request": f"`{operation.method} {operation.path}`",
        "Path": path,
        "Method": "documented" if operation.method_documented else "inferred",
        "Path parameters": _code(operation.path_parameters),
        "Query": _query(operation),
        "Body": _body(operation),
        "Answer": _answer(operation),
        "Client": f"`{client_method(operation)}`",
        "Vendor's page": f"<{operation.page}>" if operation.page else "",
        "Note": operation.note,
    }
    table = "\n".join(f"| {name} | {_cell(text)} |" for name, text in rows.items() if text)
    return f"### `{operation.key}`\n\n{operation.title}\n\n| | |\n|---|---|\n{table}"


def schema_markdown(schema: Schema) -> str:
    """Return the section of one schema."""
    lines = [f"### {schema.name}", "", f"Service: {', '.join(schema.services)}."]
    if schema.note:
        lines[-1] += f" {_linked(_sentence(schema.note))}"
    if schema.fields:
        lines += ["", "| field | type | source |", "|---|---|---|"]
        lines += [_row(item) for item in schema.fields]
    elif schema.type == "object":
        lines += ["", _sentence(NOT_DOCUMENTED)]
    else:
        lines += ["", f"Type: {schema.type}; {NOT_DOCUMENTED}."]
    return "\n".join(lines)


def introduction() -> str:
    """Return the introduction: how much of the contract is documented, and the meaning of the terms."""
    number = counts()
    return (
        f"{number['operations']} operations, of which {number['paths_documented']} have a documented path and "
        f"{number['methods_documented']} a documented method; {number['schemas']} schemas, of which "
        f"{number['schemas_documented']} have documented fields and "
        f"{number['schemas_with_fields'] - number['schemas_documented']} only inferred ones.\n\n"
        "*Documented* means that a page of the vendor shows the path, method or field. *Inferred* means that it was "
        "concluded from what the vendor shows for something else, with high, medium or low confidence: a contract "
        "profile can replace it, and the probe verifies it. Query parameters are inferred unless they are marked."
    )


def overview(operations: Iterable[Operation]) -> str:
    """Return a table of operations, each with a link to its section."""
    lines = ["| operation | request | path | method |", "|---|---|---|---|"]
    lines += [
        f"| [`{item.key}`](#{anchor(item.key)}) | `{item.method} {item.path}` | {item.confidence} "
        f"| {'documented' if item.method_documented else 'inferred'} |"
        for item in operations
    ]
    return "\n".join(lines)


def sources() -> str:
    """Return the addresses of the vendor's pages, as Markdown link references."""
    return "\n".join(f"[vendor:{key}]: {url}" for key, url in PAGES.items())


def _query(operation: Operation) -> str:
    documented = DOCUMENTED_QUERY.get(operation.key, ())
    return ", ".join(f"`{name}`{' (documented)' if name in documented else ''}" for name in operation.query)


def _body(operation: Operation) -> str:
    if operation.request is None:
        return ""
    return f"{_link(operation.request)}: {_code(body_fields(operation)) or NOT_DOCUMENTED}"


def _answer(operation: Operation) -> str:
    if operation.answer is None:
        return "not documented"
    text = _link(operation.answer)
    if operation.records:
        text += f", list under `{operation.records}`"
    if operation.record:
        text += f", wrapped in `{operation.record}`"
    return text


def _row(field: Field) -> str:
    inner = element(field.type)
    type_ = _link(inner) if inner in SCHEMAS else inner
    if inner != field.type:
        type_ = f"list of {type_}"
    return f"| `{field.name}`{'!' if field.required else ''} | {type_} | {_cell(_linked(field.source))} |"


def _linked(text: str) -> str:
    """Return the text with a link for each page of the vendor in it; `sources()` has the addresses."""
    return _PAGE_OF_SOURCE.sub(r"[\g<0>]", text)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text[0].upper()}{text[1:]}."


def _link(name: str) -> str:
    return f"[{name}](#{anchor(name)})"


def anchor(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w-]", "", heading.lower())


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
