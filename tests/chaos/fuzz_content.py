"""The compiled reader of content under sanitizers: `python -m tests.chaos.fuzz_content --inputs 1000000`.

Compiles the reader with AddressSanitizer and UndefinedBehaviorSanitizer, and gives it records of every form, more than
half of them spoiled. The exit status is 1 if it returns something else than Python, or if a sanitizer stops it. The
input of a number can be repeated: `python -m tests.chaos.fuzz --only content`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hatch_build import compile_into, compiler

MODULE = "worker.capture.records._content"
SANITIZE = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
    "-O1",
)


def library_of(name: str) -> str:
    """Return the path of a library of the compiler, which has to be loaded before all others."""
    command = [*compiler(), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def under_sanitizers(inputs: int, seed: int) -> int:
    """Compile the reader, and run `use` in a process that has the sanitizers. Return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "_content.abi3.so"
        if problem := compile_into(library, *SANITIZE, is_tried=False):
            sys.exit(f"fuzz-content: {problem}")
        environment = os.environ | {
            "LD_PRELOAD": f"{library_of('libasan.so')} {library_of('libubsan.so')}",
            "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps much to its end
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",  # so that each record is a block of its own, whose end is known
        }
        words = [sys.executable, "-m", "tests.chaos.fuzz_content", "--library", str(library)]
        words += ["--inputs", str(inputs), "--seed", str(seed)]
        return subprocess.run(words, env=environment, check=False).returncode


def use(library: Path, inputs: int, seed: int) -> int:
    """Give so many inputs to the reader of this library. Return 1 if one failed."""
    spec = importlib.util.spec_from_file_location(MODULE, library)
    assert spec
    assert spec.loader
    sys.modules[MODULE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from tests.chaos.fuzz import fuzz, say  # noqa: PLC0415 - imports the reader
    from tests.support.fuzzing.targets import answered  # noqa: PLC0415
    from worker.capture.records import compiled  # noqa: PLC0415

    assert not compiled.missing, compiled.missing
    result = fuzz("content", inputs, seed)
    say(
        f"{inputs} records in {result.seconds:.0f} s: {len(result.failures)} answered differently; "
        + ", ".join(f"{count} {way}" for way, count in sorted(answered.items()))
    )
    for number, error in list(result.failures.items())[:5]:
        say(f"\ninput {number} of seed {seed}:\n{error}")
    return 1 if result.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz_content", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--library", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.library:
        return use(given.library, given.inputs, given.seed)
    return under_sanitizers(given.inputs, given.seed)


if __name__ == "__main__":
    sys.exit(main())
