"""A crash leaves no file with the memory of the process."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment.deployed import DEPLOY
from tests.support.programs import program_env

CRASH = """
import os, resource, sys, worker.cli
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if sys.argv[1] == "ordersync":
    worker.cli.cli.main = lambda **words: os.abort()
    worker.cli.main()
os.abort()
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="no core dumps on this machine")
@pytest.mark.parametrize("program", ["ordersync", "another"])
def test_a_crash_dumps_no_core(program: str, tmp_path: Path) -> None:
    """By what the kernel says of the end of the process; another program, under the same limits, does dump one."""
    command = [sys.executable, "-c", CRASH, program]
    with subprocess.Popen(command, cwd=tmp_path, env=program_env(), stderr=subprocess.DEVNULL) as child:
        _, status = os.waitpid(child.pid, 0)
        child.returncode = 0
    assert os.WIFSIGNALED(status)
    if program == "ordersync":
        assert not os.WCOREDUMP(status)
        assert list(tmp_path.iterdir()) == []
    elif not os.WCOREDUMP(status):
        pytest.skip("the kernel dumps no core here")


def test_the_shipped_units_permit_none() -> None:
    """The limit is in the unit and in the Compose file, for Redis as well."""
    unit = (DEPLOY / "systemd" / "ordersync.service").read_text()
    assert re.findall(r"^LimitCORE=(.*)$", unit, re.MULTILINE) == ["1"]
    compose = (DEPLOY / "compose.yaml").read_text()
    assert "  ulimits: {core: 1}" in compose.split("x-image")[0]
