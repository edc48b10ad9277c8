"""Generators of types and SDKs of CloudEvents, in the versions that the table of docs/consume/tools.md names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.distributions import pip_into
from tests.support.node import INSTALLING, install, installing, modules_with
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

SCHEMAS = ROOT / "deploy" / "schemas"
LINE = SCHEMAS / "line.1.json"
NPM = {
    "@types/node": "20.19.43",
    "ajv": "8.20.0",
    "ajv-formats": "3.0.1",
    "cloudevents": "10.0.0",
    "json-schema-to-typescript": "16.0.0",
    "redis": "6.3.1",
    "typescript": "5.9.3",
}
NPM_LARGE = {"@asyncapi/modelina": "5.10.1", "quicktype": "26.0.0"}
PYPI = {
    "cloudevents": "2.2.0",
    "datamodel-code-generator": "0.89.0",
    "psycopg[binary]": "3.3.9",
    "standardwebhooks": "1.1.0",
}


def npm_tools() -> Path:
    """The `node_modules` with the small tools. The test ends where they cannot be had."""
    return modules_with(*(f"{name}@{version}" for name, version in NPM.items()), folder="tools")


def large_npm_tools() -> Path:
    """The `node_modules` with the large ones, 300 MB: only long tests use them."""
    large = (f"{name}@{version}" for name, version in NPM_LARGE.items())
    return modules_with(*large, folder="large-tools", seconds=300)


def python_tools() -> Path:
    """A folder with the packages of PyPI, for PYTHONPATH: they are no dependencies of this project."""
    with installing("pypi-tools") as folder:
        install(
            folder,
            tuple(f"{name}=={version}" for name, version in PYPI.items()),
            pip_into(folder),
            INSTALLING,
        )
    return folder


def ran(*command: str | Path, cwd: Path, given: str = "", seconds: float = PATIENCE, **env: str) -> str:
    """Run a tool that has to succeed. Return what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | env,
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def script(folder: Path, modules: Path, text: str, *words: str | Path, given: str = "") -> Any:
    """Run a script of Node with `modules` in reach. Return the JSON that it prints."""
    link = folder / "node_modules"
    if not link.exists():
        link.symlink_to(modules, target_is_directory=True)
    (folder / "script.mjs").write_text(text, encoding="utf-8")
    return json.loads(ran("node", folder / "script.mjs", *words, cwd=folder, given=given))


def draft_7(schema: Any) -> Any:
    """A schema as Modelina reads it, which knows nothing after draft 7: `$defs` was `definitions`."""
    text = json.dumps(schema | {"$schema": "http://json-schema.org/draft-07/schema#"})
    return json.loads(text.replace('"$defs"', '"definitions"').replace("#/$defs/", "#/definitions/"))
