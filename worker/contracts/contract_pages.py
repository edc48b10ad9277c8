"""The reference of the OrderMesh contract as pages of the site: an overview, and one page for each service."""

from __future__ import annotations

import re

from worker.contracts.markdown import page, table
from worker.ordermesh.contract import reference
from worker.ordermesh.contract.operations import OPERATIONS, SERVICES
from worker.ordermesh.schemas import SCHEMAS

_LINK = re.compile(r"\]\(#([\w-]+)\)")
_COMMANDS = """\
`ordersync contract show` prints the contract in force at your gateway.
[The contract of your gateway](../../guide/contract.md) explains how to change it.
"""


def contract_pages() -> dict[str, str]:
    """Return every page by its file name."""
    sections = {service: _sections(service) for service in SERVICES}
    homes = {anchor: service for service, parts in sections.items() for anchor in map(_anchor, parts)}
    pages = {"index.md": _index()}
    for service, parts in sections.items():
        used = [
            line for line in reference.sources().splitlines() if any(_named(line) in part for part in parts)
        ]
        text = page(f"{service.capitalize()} service", *parts, "\n".join(used))
        pages[f"{service}.md"] = _with_pages(text, homes, service)
    return pages


def _index() -> str:
    rows = []
    for service in SERVICES:
        operations = [each for each in OPERATIONS.values() if each.service == service]
        documented = sum(each.documented for each in operations)
        rows.append((f"[{service.capitalize()}]({service}.md)", str(len(operations)), str(documented)))
    services = table(("service", "operations", "documented paths"), rows)
    return page("The OrderMesh contract", reference.introduction(), services, _COMMANDS)


def _sections(service: str) -> list[str]:
    """Return the operations of a service, and the schemas of which it is the first service."""
    operations = [each for each in OPERATIONS.values() if each.service == service]
    return [
        f"## Operations\n\n{reference.overview(operations)}",
        *map(reference.operation_markdown, operations),
        f"## Schemas\n\n{reference.ABOUT_SCHEMAS}",
        *(reference.schema_markdown(each) for each in SCHEMAS.values() if each.services[0] == service),
    ]


def _named(source: str) -> str:
    """Return `[vendor:KEY]`, which cites a source."""
    return source.partition("]")[0] + "]"


def _anchor(section: str) -> str:
    """Return the anchor of the heading that a section begins with."""
    return reference.anchor(section.partition("\n")[0].lstrip("# "))


def _with_pages(text: str, homes: dict[str, str], service: str) -> str:
    """Return the text of a service's page with links that name the page where the section is another one's."""

    def link(found: re.Match[str]) -> str:
        home = homes[found[1]]
        return f"](#{found[1]})" if home == service else f"]({home}.md#{found[1]})"

    return _LINK.sub(link, text)
