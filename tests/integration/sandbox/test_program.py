"""The sandbox as a program of its own: `python -m worker.sandbox`."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.commands import in_process, ordersync
from tests.support.paths import ROOT
from tests.support.sandbox_api import SEARCH
from tests.support.waiting import PATIENCE, wait_for
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox.__main__ import main


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", dict[str, Any]]]:
    """A running sandbox and what it printed; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.sandbox", "--orders", "20", "--changes-per-second", "0", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a sandbox that does not start."""
    done = in_process(main, "sandbox", *arguments, cwd=ROOT)
    assert done.stdout == ""
    return done.returncode, done.stderr


def token(info: dict[str, Any]) -> str:
    answer = httpx.post(
        info["url"] + OPERATIONS["clients.token"].path,
        json={"clientId": info["client_id"], "clientSecret": info["client_secret"]},
    )
    access: str = answer.raise_for_status().json()["accessToken"]
    return access


def test_it_prints_one_line_when_it_answers() -> None:
    """The first line tells URL, credentials and orders, and with them a page can be read at once."""
    with program("--seed", "4") as (process, info):
        assert list(info) == ["url", "client_id", "client_secret", "orders"]
        assert info["orders"] == 20
        headers = {"authorization": f"Bearer {token(info)}"}
        assert len(httpx.get(info["url"] + SEARCH, headers=headers).json()["orders"]) == 20
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_even_while_a_request_hangs(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with exit code 0; a hanging request is let go, not waited for."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[rule]]\noperation = "orders.search"\naction = "hang"\n')
    with program("--faults", str(faults)) as (process, info):
        host, _, port = info["url"].removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(f"GET {SEARCH} HTTP/1.1\r\nhost: sandbox\r\n\r\n".encode())
            stats = f"{info['url']}/_sandbox/stats"
            wait_for(lambda: httpx.get(stats).json()["faults"][0]["fired"] == 1)
            process.send_signal(number)
            # It says on standard error when it had to cancel a request after its deadline.
            _, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, err) == (0, b"")
            assert connection.recv(1) == b""


def test_it_ends_with_standard_input() -> None:
    """With `--watch-stdin` it ends by itself when its standard input does."""
    with program("--watch-stdin") as (process, info):
        assert httpx.get(f"{info['url']}/_sandbox/stats").json()["orders"] == 20
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_without_watching_it_outlives_standard_input() -> None:
    """Without the flag the end of standard input means nothing."""
    with program() as (process, info):
        assert process.stdin is not None
        process.stdin.close()
        assert httpx.get(f"{info['url']}/_sandbox/stats").status_code == 200
        assert process.poll() is None


def test_it_does_not_outlive_a_killed_parent() -> None:
    """A parent killed by SIGKILL leaves no sandbox behind."""
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'worker.sandbox', '--orders', '5',\n"
        "                          '--watch-stdin'], stdin=subprocess.PIPE)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            assert httpx.get(f"{url}/_sandbox/stats").status_code == 200
            process.kill()
            # The pipe ends when the last process that holds it, the sandbox, is gone.
            assert process.stdout.read() == b""
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/_sandbox/stats")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_port_in_use_is_exit_3() -> None:
    """A taken port is told in one line, with exit code 3."""
    with program() as (_, info):
        port = info["url"].rpartition(":")[2]
        code, message = refused("--port", port, "--orders", "0")
    assert code == 3
    assert message == f"error: port {port} on 127.0.0.1 is in use. Choose another port, or 0 for a free one\n"


def test_other_machines_are_refused() -> None:
    """An address that other machines could reach is wrong use, exit code 2."""
    code, message = refused("--host=0.0.0.0")
    assert code == 2
    assert message == "error: the sandbox listens on this machine only: use 127.0.0.1, not '0.0.0.0'\n"


def test_bad_faults_are_exit_2(tmp_path: Path) -> None:
    """A bad fault file is wrong use: one line names the rule and what is allowed."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[rule]]\nname = "oops"\naction = "explode"\n')
    code, message = refused("--faults", str(faults))
    assert code == 2
    assert message.startswith("error: fault rule 'oops': action is 'explode'; allowed: one of status, delay,")
    assert message.count("\n") == 1


def test_another_contract_and_denied_permissions() -> None:
    """The layout of the API and what tokens lack are options, each of which may be given several times."""
    given = ("--contract", "wrapper_key=none", "--contract", "page_base=0", "--deny", "order:create")
    with program(*given, "--deny", "shipment:get") as (_, info):
        headers = {"authorization": f"Bearer {token(info)}"}
        rows = httpx.get(info["url"] + SEARCH, headers=headers, params={"page": 0}).json()
        assert len(rows) == 20
        statuses = [
            httpx.request(method, info["url"] + OPERATIONS[key].path, headers=headers).status_code
            for method, key in (
                ("POST", "orders.create"),
                ("GET", "shipments.search"),
                ("GET", "notes.search"),
            )
        ]
        assert statuses == [403, 403, 200]


def test_tokens_can_live_for_a_moment() -> None:
    """How long tokens are accepted is an option: what expires is answered with 401."""
    with program("--token-lifetime", "0.001") as (_, info):
        headers = {"authorization": f"Bearer {token(info)}"}
        assert httpx.get(info["url"] + SEARCH, headers=headers).status_code == 401
    code, words = refused("--token-lifetime", "0")
    assert code == 2
    assert "a number of seconds above 0" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--contract", "colour=red"),
            "contract: key is 'colour'; allowed: KEY=VALUE with one of wrapper_key,",
        ),
        (("--contract", "page_base=2"), "contract: page_base is 2; allowed: 0 or 1"),
        (
            ("--deny", "order:eat"),
            "unknown permission 'order:eat'; allowed: RESOURCE:VERB with one of order,",
        ),
    ],
)
def test_bad_variants_are_exit_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """A key, a value or a permission that is none is wrong use; one line tells what is allowed."""
    code, told = refused(*arguments)
    assert code == 2
    assert message in told
    done = ordersync("sandbox", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--port", "70000"), ("--orders", "-1"), ("--changes-per-second", "nan"), ("--changes-per-second", "x")],
)
def test_bad_numbers_are_exit_2(arguments: tuple[str, str]) -> None:
    """Numbers out of range are wrong use and told with the option's name."""
    code, message = refused(*arguments)
    assert code == 2
    assert f"argument {arguments[0]}: '{arguments[1]}' is" in message


def test_the_same_seed_serves_the_same_orders() -> None:
    """Two programs with one seed serve the same bytes."""
    with program("--seed", "7") as (_, first), program("--seed", "7") as (_, second):
        one, other = (httpx.get(f"{info['url']}/_sandbox/truth").content for info in (first, second))
    assert one == other
    assert one.count(b"\n") == 20
