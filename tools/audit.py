"""Look up known vulnerabilities of the locked packages with pip-audit, and say whether its source has answered.

    python -m tools.audit LOCK...            what `make audit` runs
    python -m tools.audit --required LOCK... also fails if a package could not be looked up

pip-audit ends with success when its source knows none of the packages, as behind a mirror without advisories. So its
report is read: a package that it skipped was not audited.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, VULNERABLE, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Audit:
    """The result for one lock: packages that were looked up, their vulnerabilities, and packages that were not."""

    audited: int
    vulnerable: tuple[str, ...]
    skipped: tuple[str, ...]
    failure: str = ""

    @property
    def is_whole(self) -> bool:
        """True if every package was looked up."""
        return not self.failure and not self.skipped and self.audited > 0

    def words(self, lock: str) -> list[str]:
        """Return the result in words, a line each."""
        if self.failure:
            return [f"{lock}: NOT audited: {self.failure}"]
        lines = [f"{lock}: {self.audited} packages audited, {len(self.vulnerable)} vulnerabilities"]
        if self.skipped:
            lines.append(
                f"{lock}: NOT audited, since the source does not know them: {', '.join(self.skipped)}"
            )
        return [*lines, *(f"{lock}: {item}" for item in self.vulnerable)]


def parse(report: str, error: str = "") -> Audit:
    """Return what a report of pip-audit (JSON) says; `error`: what it wrote to standard error."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = [line for line in error.strip().splitlines() if line.strip()]
        return Audit(0, (), (), lines[-1] if lines else "pip-audit has written no report")
    skipped = tuple(item["name"] for item in packages if "skip_reason" in item)
    found = tuple(
        f"{item['name']} {item['version']}: {each['id']}, fixed in {', '.join(each['fix_versions']) or 'no version'}"
        for item in packages
        for each in item.get("vulns", ())
    )
    return Audit(len(packages) - len(skipped), found, skipped)


def exit_code(audits: list[Audit], *, required: bool) -> int:
    """Return 1 for a vulnerability, 2 if it is `required` that all packages are audited and some are not, else 0."""
    if any(audit.vulnerable for audit in audits):
        return VULNERABLE
    return UNKNOWN if required and not all(audit.is_whole for audit in audits) else OK


def audit(lock: str) -> Audit:
    """Run pip-audit for one lock."""
    done = subprocess.run(
        [Path(sys.executable).with_name("pip-audit"), "--disable-pip", "--require-hashes", "--requirement", lock,
         "--format", "json", "--progress-spinner", "off"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return parse(done.stdout, done.stderr)


def main(arguments: list[str]) -> int:
    """Audit each lock and print the results, as a warning where GitHub runs this and some packages were not audited."""
    locks = [item for item in arguments if item != "--required"]
    audits = [audit(lock) for lock in locks]
    for lock, result in zip(locks, audits, strict=True):
        lines = result.words(lock)
        print("\n".join(lines), flush=True)
        if not result.is_whole and os.environ.get("GITHUB_ACTIONS"):
            print(f"::warning title=not audited::{lines[0]}", flush=True)
    return exit_code(audits, required="--required" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
