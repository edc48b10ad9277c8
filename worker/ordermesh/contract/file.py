"""The contract file that `ORDERSYNC_CONTRACT_FILE` names: a TOML profile, or an OpenAPI document.

The format is detected from the content. A TOML profile may name an OpenAPI document as the layer below it:

    openapi = "vendor.json"            # relative to this file
    login_case = "snake"               # or "camel": the spelling of the fields of a client's login

    [prefixes]                         # of all paths of a service
    order = ""

    [lists]                            # the parameters of all lists: the fields of `Listing`
    page_parameter = "pageNumber"
    first_page = 0

    [operations."orders.search"]       # one operation: method, path, and for a list the fields of `Listing`
    method = "GET"
    path = "/v1/orders/search"
    wrapper = "data"

A single error lists all problems of a file.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from worker.config.file_trust import refuse_foreign
from worker.errors import SettingsError
from worker.ordermesh.contract.layers import Contract, Layer, built_in, check_method, stack
from worker.ordermesh.contract.names import HEADER, RESERVED_HEADERS
from worker.ordermesh.contract.openapi_document import NotOpenApi
from worker.ordermesh.contract.openapi_import import Imported, import_document
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.toml_profile import profile_layer, quoted, toml
from worker.ordermesh.contract.yaml import load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.ordermesh.contract.profile import Listing

LARGEST_FILE = 32 * 1024 * 1024
"""Bytes. The vendor's document is much smaller."""
MAX_PROBLEMS = 20
"""Problems of one file that the error lists."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OPENAPI_YAML = re.compile(r"""^["']?(openapi|swagger)["']?\s*:""", re.MULTILINE)


def load(file: Path) -> Contract:
    """Return the contract of a file on top of the built-in table.

    Raises:
        SettingsError: The file cannot be used. The message contains the file, every problem and what to do.

    """
    refuse_foreign(file, "ORDERSYNC_CONTRACT_FILE")
    contract = stack(_layers(file))
    for where, listing in (("lists", contract.profile.listing), *contract.profile.lists.items()):
        _check_continuation(file, where, listing)
        if listing.page_parameter == listing.size_parameter:
            raise SettingsError(
                f"{file}: {where}: page_parameter and size_parameter are both {listing.page_parameter!r}; set both "
                "to different names"
            )
    for key, route in contract.profile.routes.items():
        try:
            check_method(key, route.method, route.path)
        except ValueError as error:
            built_in = OPERATIONS[key].method
            raise SettingsError(f'{file}: operations."{key}".method: {error}. Built in: {built_in}') from None
    return contract


def _check_continuation(file: Path, where: str, listing: Listing) -> None:
    """Raise `SettingsError` if a list cannot be continued like this."""
    for name in filter(None, (listing.next_in, listing.next_parameter)):
        header = name.removeprefix(HEADER) if name.startswith(HEADER) else None
        if header is not None and (not _HEADER_NAME.fullmatch(header) or header.lower() in RESERVED_HEADERS):
            raise SettingsError(
                f"{file}: {where}: {name!r} is not a header that can be used to continue a list"
            )


def import_file(file: Path, *, add_prefixes: bool = False) -> Imported:
    """Match an OpenAPI document with the operations; see `import_document`.

    Raises:
        SettingsError: The file cannot be read, or is not an OpenAPI document.

    """
    text = _text(file)
    if _is_profile(text):
        raise SettingsError(
            f"{file} is not an OpenAPI document: it is not a JSON object, and has no line that begins with "
            f"`openapi:` or `swagger:`. To use a contract profile (TOML), set ORDERSYNC_CONTRACT_FILE={file}"
        )
    return _imported(file, text, add_prefixes=add_prefixes)


def openapi_layer(file: Path, imported: Imported) -> Layer:
    """Return an imported document as a layer.

    Raises:
        SettingsError: The document contains none of the operations, so it describes another API.

    """
    if not imported.matched:
        raise SettingsError(
            f"{file} describes none of the {len(OPERATIONS)} operations of OrderMesh. Check that it is the "
            f"document of this API. To see what it describes: ordersync contract import {file}"
        )
    return Layer("OpenAPI document", str(file), operations=imported.operations)


def render(operations: Mapping[str, Mapping[str, Any]], header: str) -> str:
    """Return a TOML profile that sets these values of operations, with the built-in values as comments."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    for key, values in operations.items():
        operation = OPERATIONS[key]
        lines += ["", f"# {operation.title}", f"[operations.{quoted(key)}]"]
        for name, value in values.items():
            default = built_in(key, name)
            comment = "" if default in (None, {}) else f"  # built in: {default}"
            lines.append(f"{name} = {toml(value)}{comment}")
    return "\n".join(lines) + "\n"


def _layers(file: Path) -> list[Layer]:
    text = _text(
        file, ". Set ORDERSYNC_CONTRACT_FILE (or contract_file in the accounts file) to an existing file"
    )
    if not _is_profile(text):
        return [openapi_layer(file, _imported(file, text))]
    profile = _profile(file, text)
    layer, problems = profile_layer(profile, str(file))
    if problems:
        count = f", {len(problems)} problems" if len(problems) > 1 else ""
        more = ["..."] if len(problems) > MAX_PROBLEMS else []
        listed = "".join(f"\n  {line}" for line in problems[:MAX_PROBLEMS] + more)
        raise SettingsError(f"{file} cannot be used{count}:{listed}")
    if "openapi" not in profile:
        return [layer]
    below = file.parent / profile["openapi"]
    return [openapi_layer(below, import_file(below)), layer]


# --- reading ----------------------------------------------------------------------------------------------


def _text(file: Path, advice: str = "") -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}{advice}") from None
    except ValueError as error:  # a null character in the name
        raise SettingsError(f"{file!r} cannot be read: {error}") from None
    if len(content) > LARGEST_FILE:
        raise SettingsError(
            f"{file} is larger than {LARGEST_FILE // 1024**2} MiB. Check that it is the right file"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not valid UTF-8. Save it as UTF-8") from None
    if not text.strip():
        raise SettingsError(f"{file} is empty. Write a contract profile or an OpenAPI document into it")
    return text


def _is_profile(text: str) -> bool:
    """True if a text is meant as TOML: it is neither a JSON object nor YAML with the key of an OpenAPI document."""
    return not text.lstrip().startswith("{") and not _OPENAPI_YAML.search(text)


def _profile(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also for a number that is too long
        raise SettingsError(
            f"{file} is neither a contract profile (as TOML: {error}) nor an OpenAPI document (it is not a JSON "
            "object, and has no line that begins with `openapi:`)"
        ) from None


def _imported(file: Path, text: str, *, add_prefixes: bool = False) -> Imported:
    as_json = text.lstrip().startswith("{")
    try:
        document = json.loads(text) if as_json else load_yaml(text)
        return import_document(document, add_prefixes=add_prefixes)
    except NotOpenApi as error:
        raise SettingsError(f"{file}: {error}") from None
    except RecursionError:
        raise SettingsError(f"{file} is nested too deeply to be an OpenAPI document") from None
    except ValueError as error:
        kind = "JSON" if as_json else "YAML"
        raise SettingsError(f"{file} is not valid {kind}: {' '.join(str(error).split())}") from None
