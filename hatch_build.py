"""Compiles the reader of content (native/content.c) into the package, where there is a C compiler.

The package is complete without it: then Python reads every record, which takes longer and gives the same. So whatever
fails here is one line of notice, and no error. ORDERSYNC_COMPILED=off builds the package without the reader.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).parent / "native"
MODULE = "worker/capture/records/_content.abi3.so"
SWITCH = "ORDERSYNC_COMPILED"
SECONDS = 120
_UNDERWAY = ".compiled"
_FLAGS = ("-std=c11", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden")
_SHARED = ("-bundle", "-undefined", "dynamic_lookup") if sys.platform == "darwin" else ("-shared",)
_TRY = "import sys; sys.path.insert(0, sys.argv[1]); import _content; _content.Reader((), print)"


def compiler() -> list[str]:
    """Return the words that start the C compiler: that of the variable CC, of Python, or `cc`; [] for none."""
    for words in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        command = shlex.split(words or "")
        if command and shutil.which(command[0]):
            return command
    return []


def compile_into(target: Path, *flags: str, is_tried: bool = True) -> str:
    """Compile the reader, and try whether this Python takes it. Return why it cannot be had; "" if it is there."""
    command = compiler()
    if not command:
        return "there is no C compiler"
    include = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "_content.abi3.so"
        words = [
            *command,
            *_FLAGS,
            *flags,
            *_SHARED,
            f"-I{include}",
            str(SOURCES / "content.c"),
            "-o",
            str(made),
        ]
        for step in (words, [sys.executable, "-c", _TRY, folder])[: 1 + is_tried]:
            try:
                done = subprocess.run(step, capture_output=True, text=True, timeout=SECONDS, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
            if done.returncode:
                lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
                return (lines or [f"{step[0]} ended with {done.returncode}"])[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")  # a worker may have loaded the old one
        shutil.copy2(made, beside)
        beside.replace(target)
    return ""


class ContentHook(BuildHookInterface[Any]):
    """Adds the compiled reader to a wheel, or puts it into the checkout for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, if it is wanted and can be done."""
        if self.target_name != "wheel":
            return
        is_editable = version == "editable"
        target = (
            Path(self.root if is_editable else self.directory) / ("" if is_editable else _UNDERWAY) / MODULE
        )
        try:
            target.unlink(missing_ok=True)  # that of an older source
            is_off = os.environ.get(SWITCH) == "off"
            problem = f"{SWITCH} is off" if is_off else compile_into(target)
        except (OSError, ValueError) as error:
            problem = str(error)
        if problem:
            self.app.display_warning(f"no compiled reader of content, so Python reads the records: {problem}")
        elif not is_editable:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data |= {"pure_python": False, "tag": f"cp311-abi3-{platform}"}
            build_data["force_include"][str(target)] = MODULE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Leave nothing but the wheel behind."""
        shutil.rmtree(Path(self.directory) / _UNDERWAY, ignore_errors=True)
