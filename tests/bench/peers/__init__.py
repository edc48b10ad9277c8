"""Other people's tools on the same source, each in an environment of its own that is made on demand.

An environment is a venv in the cache folder of the user, with the packages of `NAME.txt` from PyPI. This module and the
scripts beside it import nothing else of the project than modules which need the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool.

    Attributes:
        name: As in the table, and of the file of its packages.
        package: The package whose version is told.
        script: What runs it, beside this module.
        what: What it is, in words.
    """

    name: str
    package: str
    script: str
    what: str

    @property
    def packages(self) -> Path:
        """The file of its packages, with their versions."""
        return HERE / f"{self.name}.txt"

    @property
    def version(self) -> str:
        """The version of its package."""
        found = re.search(rf"(?m)^{self.package}==(\S+)$", self.packages.read_text())
        if found is None:
            raise ValueError(f"{self.packages} does not name the version of {self.package}")
        return found[1]

    @property
    def folder(self) -> Path:
        """Where its environment is: another one for other packages, or another Python."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ordersync-bench"
        content = hashlib.sha256(self.packages.read_bytes()).hexdigest()[:12]
        return cache / f"{self.name}-{content}-{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.folder / "bin" / "python"

    def prepare(self) -> None:
        """Make its environment, unless it exists. That downloads its packages.

        Raises:
            RuntimeError: An installation has failed.

        """
        complete = self.folder / "complete"
        if complete.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        print(f"installing {self.package} {self.version} into {self.folder}", file=sys.stderr, flush=True)
        for command in (
            [sys.executable, "-m", "venv", str(self.folder)],
            [str(self.python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(self.packages)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command[1:4])}: {done.stderr.strip()[-500:]}")
        complete.touch()


PEERS = (
    Peer("dlt", "dlt", "dlt_rest.py", "`rest_api` source, loaded into files"),
    Peer("airbyte", "airbyte-cdk", "airbyte_source.py", "declarative source, messages into a file"),
    Peer("singer", "singer-sdk", "singer_tap.py", "tap of the Meltano SDK, messages into a file"),
)
