"""Freed memory that is given back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FREED_IN_BETWEEN = """
from worker.service import memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def some():
    return [bytes(2000) for _ in range(20_000)]
most, kept = some(), some()
del most
before = resident()
memory.give_back()
print(before - resident())
"""
"""What is kept lies above what is freed, so the C library does not give that back by itself."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back when asked")
def test_freed_memory_is_given_back() -> None:
    """At least most of it: the worker that has read a million records is no larger than it was, a minute later."""
    done = subprocess.run(
        [sys.executable, "-c", FREED_IN_BETWEEN], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 30_000_000
