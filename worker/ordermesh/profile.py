"""The contract profile: where the operations stand at a gateway and how its lists are paged.

Most paths of the API are inferred and no list's parameters are documented, so none of it is written into
the code that uses it: a profile can be replaced as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from worker.ordermesh.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ContractProfile:
    """What is believed of a gateway.

    `paths` replaces the built-in path of an operation, by its key. `wrappers` names the keys under which a
    list operation may wrap its records, most likely first; a bare list and, as a last resort, the only list
    in the body are read too. `page` and `pageSize`, from 1, are documented for one catalog operation and
    inferred for the rest (api-facts 1.5).
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    page_parameter: str = "page"
    size_parameter: str = "pageSize"
    first_page: int = 1
    wrappers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"orders.search": ("orders",)})

    def path(self, key: str, values: Mapping[str, str] | None = None) -> str:
        """The path of operation `key` at the gateway, with `values` in the place of its parameters.

        Raises:
            ValueError: A parameter has no value, or one that would lead to another path.

        """
        path = self.paths.get(key, OPERATIONS[key].path)
        for name, value in (values or {}).items():
            if value in {"", ".", ".."}:
                raise ValueError(f"{key}: {value!r} cannot stand for {name} in a path")
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        if "{" in path:
            raise ValueError(f"{key}: no value for {path[path.index('{') :]}")
        return path

    def page_query(self, number: int, size: int) -> dict[str, str]:
        """Query parameters for page `number`, counted from 0, of `size` records."""
        return {self.page_parameter: str(number + self.first_page), self.size_parameter: str(size)}
