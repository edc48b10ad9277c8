"""Write a software bill of materials (CycloneDX 1.6, JSON) of what the worker is installed with.

    python -m tools.sbom    write dist/ordermesh-sync-VERSION.cdx.json; what `make sbom` runs

The packages are those of `requirements.lock`, installed into a clean environment for this platform and Python, with the
consumer kit. `make release` does the same with the wheels that it has built.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.environments import DIST, ROOT, environment, run, version_of

LOCK = ROOT / "requirements.lock"
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==[^\n]*\n((?:    --hash=[^\n]*\n?)+)", re.MULTILINE)
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_TOOLS = {"pip", "setuptools"}
"""What a new environment contains besides the packages of the lock."""


def path_of(version: str) -> Path:
    """Return the file of a version."""
    return DIST / f"ordermesh-sync-{version}.cdx.json"


def write(tools: Path, programs: Path, version: str, folder: Path) -> Path:
    """Write the bill of an environment, and return its file.

    Args:
        tools: The programs of an environment with the packages of `requirements-supply.lock`.
        programs: The programs of the environment that is described.
        version: The version of the worker.
        folder: A folder to work in.

    """
    raw = folder / "raw.cdx.json"
    run(
        tools / "cyclonedx-py", "environment", programs / "python", "--pyproject", ROOT / "pyproject.toml",
        "--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON", "--output-file", raw, cwd=folder,
    )  # fmt: skip
    bill = with_hashes(
        json.loads(raw.read_text(encoding="utf-8")), locked_hashes(LOCK.read_text(encoding="utf-8"))
    )
    DIST.mkdir(exist_ok=True)
    path_of(version).write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    return path_of(version)


def locked_hashes(lock: str) -> dict[str, list[str]]:
    """Return the SHA-256 of the files of each package of a lock: any of them may be installed."""
    return {name: _HASH.findall(hashes) for name, hashes in _ENTRY.findall(lock)}


def with_hashes(bill: dict[str, Any], hashes: dict[str, list[str]]) -> dict[str, Any]:
    """Return a bill without the tools of the environment, with the hashes that the lock permits for each package."""
    gone = {item["bom-ref"] for item in bill["components"] if item["name"] in _TOOLS}
    kept = [item for item in bill["components"] if item["bom-ref"] not in gone]
    for item in kept:
        if permitted := hashes.get(re.sub(r"[-_.]+", "-", item["name"]).lower()):
            properties = [{"name": "ordersync:locked:sha256", "value": value} for value in permitted]
            item["properties"] = [*item.get("properties", ()), *properties]
    graph = [item for item in bill.get("dependencies", ()) if item["ref"] not in gone]
    return {**bill, "components": kept, "dependencies": graph}


def main() -> None:
    """Write the bill of the locked packages."""
    version = version_of(ROOT)
    with tempfile.TemporaryDirectory(prefix="ordersync-sbom-") as name:
        folder = Path(name)
        wheel = (sys.executable, "-m", "hatchling", "build", "--directory", folder, "--target", "wheel")
        run(*wheel, cwd=ROOT / "consumer", quiet=True)
        (kit,) = folder.glob("*.whl")
        programs = environment(folder / "worker", "requirements.lock")
        run(
            programs / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", kit, cwd=folder
        )
        tools = environment(folder / "tools", "requirements-supply.lock")
        print(write(tools, programs, version, folder))


if __name__ == "__main__":
    main()
