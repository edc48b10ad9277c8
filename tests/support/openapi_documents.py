"""OpenAPI documents, and what was found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from worker.ordermesh.contract.openapi_import import Imported, Match
from worker.ordermesh.contract.operations import OPERATIONS, Operation


def described(*entries: tuple[str, str, Mapping[str, Any]], **top: Any) -> dict[str, Any]:
    """A document of operations, each as method, path and what is said of it."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, node in entries:
        paths.setdefault(path, {})[method.lower()] = dict(node)
    return {"openapi": "3.0.3", "info": {"title": "OrderMesh", "version": "1"}, "paths": paths, **top}


def of_table(
    path: Callable[[Operation], str] = lambda operation: operation.path,
    title: Callable[[Operation], str] = lambda operation: operation.title,
    **top: Any,
) -> dict[str, Any]:
    """A document of all operations of the table."""
    return described(
        *((one.method, path(one), {"summary": title(one)}) for one in OPERATIONS.values()), **top
    )


def titled(key: str, path: str, method: str | None = None, **node: Any) -> tuple[str, str, dict[str, Any]]:
    """One operation under the title of the table, at another path."""
    operation = OPERATIONS[key]
    return method or operation.method, path, {"summary": operation.title, **node}


def answer(schema: Any, status: Any = "200") -> dict[str, Any]:
    """The responses of an operation that answers with this."""
    return {"responses": {status: {"description": "", "content": {"application/json": {"schema": schema}}}}}


def the_match(imported: Imported, key: str) -> Match:
    (match,) = (match for match in imported.matched if match.key == key)
    return match
