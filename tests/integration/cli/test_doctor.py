"""`ordersync doctor` and the gateway: the truth about each contract, login and list, and what to do about it."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.doctor import doctor, findings_of
from tests.support.programs import login_settings, program_env
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE
from worker.capture.registry import RESOURCES
from worker.sandbox import PASSWORD, USERNAME, FaultRule, SandboxServer, ServedContract


def test_all_is_well(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A worker that can do its job: exit 0, every area looked at, one line each for people."""
    answer, done = doctor(sandbox, redis_url, tmp_path)
    assert (done.returncode, answer["ok"]) == (0, True)
    assert {one["area"] for one in answer["findings"]} == {
        "settings",
        "redis",
        "state",
        "login",
        "contract",
        "clock",
    }
    assert not [one for one in answer["findings"] if one["level"] == "problem"]
    assert "client credentials; a token is valid for 24 h, renewed by logging in again" in findings_of(
        answer, "login", "ok"
    )
    assert answer["contract"]["default"]["orders"]["first_page"] == 1
    text = ordersync("doctor", cwd=tmp_path, **login_settings(sandbox, redis_url, tmp_path))
    assert text.stdout.endswith("The worker can run.\n")
    assert "contract  ok       default: orders: /order/v1/orders, pages from 1" in text.stdout


VARIANTS: dict[str, tuple[ServedContract, str]] = {
    "wrapper": (ServedContract(wrapper_key="data"), "under 'data'"),
    "bare list": (ServedContract(wrapper_key=None), "a bare list, no total"),
    "0-based": (ServedContract(page_base=0), "pages from 0"),
    "cap": (ServedContract(max_page_size=20), "at most 20 records per page"),
    "no total": (ServedContract(total=None), "no total"),
    "filter honoured": (ServedContract(since_honoured=True), "filter updatedFrom"),
    "sort honoured": (ServedContract(sort_honoured=True), "sortable"),
    "prefix-less": (ServedContract(prefixless=("order",)), "orders: /v1/orders,"),
    "snake case": (ServedContract(login_case="snake"), "orders: /order/v1/orders,"),
    "other audit shape": (ServedContract(audit_shape="bare"), "orders: /order/v1/orders,"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_contract(redis_url: str, tmp_path: Path, variant: str) -> None:
    """The doctor reports the truth of each contract, and `run --once` then reads everything."""
    contract, expected = VARIANTS[variant]
    with SandboxServer(orders=130, contract=contract) as sandbox:
        sandbox.store.change(10)
        answer, done = doctor(sandbox, redis_url, tmp_path)
        assert done.returncode == 0
        assert any(expected in text for text in findings_of(answer, "contract", "ok"))
        notes = " ".join(findings_of(answer, "contract", "note"))
        assert ("orders: no filter by modification" in notes) is not contract.since_honoured
        everything = json.dumps(dict.fromkeys(RESOURCES, 60))
        settings = login_settings(sandbox, redis_url, tmp_path, poll__intervals=everything)
        once = ordersync("run", "--once", "--json", cwd=tmp_path, **settings)
        runs = {
            run["resource"]: (run["outcome"], run["records"], run["snapshot"])
            for run in json.loads(once.stdout)
        }
        there = {kind: len(source) for kind, source in sandbox.world.sources().items()}
        assert once.returncode == 0, once.stderr
        assert runs == {kind: ("complete", count, count) for kind, count in there.items()}


def test_wrong_login(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """Refused credentials: exit 2, which variable to look at, and no secret in the output."""
    answer, done = doctor(sandbox, redis_url, tmp_path, api__client_secret="wrong-secret")
    assert (done.returncode, answer["ok"]) == (2, False)
    (problem,) = findings_of(answer, "login", "problem")
    assert "ORDERSYNC_API__CLIENT_SECRET" in problem
    assert "wrong-secret" not in done.stdout + done.stderr


def test_user_login(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A user's login tells its permissions, and is not for production."""
    settings = login_settings(sandbox, redis_url, tmp_path, api__username=USERNAME, api__password=PASSWORD)
    del settings["api__client_id"], settings["api__client_secret"]
    done = ordersync("doctor", "--json", cwd=tmp_path, **settings)
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert any("renewed by a refresh token" in text for text in findings_of(answer, "login", "ok"))
    assert any(
        text.startswith("permissions: ") and "order: " in text for text in findings_of(answer, "login", "ok")
    )
    assert findings_of(answer, "login", "warning") == ["a user login ends with a logout or a new password"]


def test_a_missing_permission(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A polled resource that may not be read is a problem; one that is not polled is not."""
    sandbox.auth.permit({"order": {"get"}})
    answer, done = doctor(sandbox, redis_url, tmp_path)
    assert (done.returncode, answer["ok"]) == (0, True)
    assert any(
        "shipments (not polled)" in text and "forbidden" in text
        for text in findings_of(answer, "contract", "note")
    )
    sandbox.auth.permit({"shipment": {"get"}})
    answer, done = doctor(sandbox, redis_url, tmp_path)
    assert (done.returncode, answer["ok"]) == (1, False)
    (problem,) = [one for one in answer["findings"] if one["level"] == "problem"]
    assert "forbidden" in problem["text"]
    assert "grant" in problem["advice"]


def test_pages_that_are_not_turned(redis_url: str, tmp_path: Path) -> None:
    """More than one page of which only the first can be read: the worker cannot do its job, and it is said."""
    with SandboxServer(orders=130, contract=ServedContract(ignore_page=True, max_page_size=50)) as sandbox:
        answer, done = doctor(sandbox, redis_url, tmp_path)
        assert (done.returncode, answer["ok"]) == (1, False)
        (problem,) = findings_of(answer, "contract", "problem")
        assert "the page parameter is ignored" in problem
    with SandboxServer(orders=30, contract=ServedContract(ignore_page=True)) as sandbox:
        answer, done = doctor(sandbox, redis_url, tmp_path)
        assert (done.returncode, answer["ok"]) == (0, True)


def test_fields_that_are_not_known(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """A typo in a privacy rule would publish what was to be left out: it is told, and is no problem in itself."""
    fields = {
        "orders": {
            "billingAdress": "drop",
            "SHIPPINGADDRESS.email": "drop",
            "**.emial": "drop",
            "meta.x": "keep",
        }
    }
    wrong = {
        "privacy__fields": json.dumps(fields),
        "poll__ignore_fields": '{"shipments": ["nosuch", "packages"]}',
    }
    answer, done = doctor(sandbox, redis_url, tmp_path, **wrong)
    assert done.returncode == 0
    told = {one["text"]: one["advice"] for one in answer["findings"] if one["level"] == "warning"}
    assert list(told) == [
        "ORDERSYNC_PRIVACY__FIELDS: unknown field 'billingAdress' of orders",
        "ORDERSYNC_PRIVACY__FIELDS: unknown field 'emial' of orders",
        "ORDERSYNC_POLL__IGNORE_FIELDS: unknown field 'nosuch' of shipments",
    ]
    first, second, third = told.values()
    assert first.startswith("did you mean billingAddress? ")
    assert second.startswith("did you mean email? ")
    assert third.startswith("The vendor does not document every field")


@pytest.mark.parametrize("way_out", [False, True])
def test_a_list_that_is_cut_off(redis_url: str, tmp_path: Path, way_out: bool) -> None:
    """Where no more than its beginning can be read, it is said, and `run --once` agrees."""
    cut = ServedContract(result_cap=1000, refuse_deep=True, descending=True)
    contract = replace(cut, since_honoured=way_out, sort_honoured=way_out)
    with SandboxServer(orders=1300, contract=contract) as sandbox:
        sandbox.store.change(10)
        answer, done = doctor(sandbox, redis_url, tmp_path)
        told = findings_of(answer, "contract", "note" if way_out else "problem")
        assert "the page with the last of 1300 records was refused (status 400" in " ".join(told)
        once = ordersync("run", "--once", cwd=tmp_path, **login_settings(sandbox, redis_url, tmp_path))
        assert done.returncode == once.returncode == int(not way_out)
        if not way_out:
            assert "the server returns only 1000 of 1300 records" in once.stderr


@pytest.mark.parametrize("total", ["total", None])
def test_pages_that_are_not_turned_and_too_small(redis_url: str, tmp_path: Path, total: str | None) -> None:
    """What does not fit into a page of the worker cannot be read: doctor and `run --once` agree, with what to do."""
    with SandboxServer(orders=130, contract=ServedContract(ignore_page=True, total=total)) as sandbox:
        answer, done = doctor(sandbox, redis_url, tmp_path)
        assert (done.returncode, answer["ok"]) == (1, False)
        (problem,) = [one for one in answer["findings"] if one["level"] == "problem"]
        assert "only the first 100 records can be read" in problem["text"]
        once = ordersync("run", "--once", cwd=tmp_path, **login_settings(sandbox, redis_url, tmp_path))
        assert once.returncode == 1
        assert "does not honour the page parameter" in once.stderr
        if total is not None:
            assert "ORDERSYNC_API__PAGE_SIZE to 130 or more" in problem["advice"]
            settings = login_settings(sandbox, redis_url, tmp_path, api__page_size="130")
            assert ordersync("doctor", cwd=tmp_path, **settings).returncode == 0
            once = ordersync("run", "--once", "--json", cwd=tmp_path, **settings)
            assert (once.returncode, json.loads(once.stdout)[0]["outcome"]) == (0, "complete")


def test_a_secret_that_the_server_repeats(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """What a server quotes of a login stands in no output."""
    body = '{"message": "client secret sandbox-secret is not good enough"}'
    sandbox.faults.replace((FaultRule("status", operation="clients.token", code=401, body=body),))
    answer, done = doctor(sandbox, redis_url, tmp_path)
    assert (done.returncode, answer["ok"]) == (2, False)
    assert "is not good enough" in findings_of(answer, "login", "problem")[0]
    once = ordersync("run", "--once", cwd=tmp_path, **login_settings(sandbox, redis_url, tmp_path))
    assert once.returncode == 2
    assert "sandbox-secret" not in done.stdout + done.stderr + once.stdout + once.stderr


def test_no_such_path(redis_url: str, tmp_path: Path) -> None:
    """A gateway that has the orders elsewhere: which paths were tried, and what to do."""
    with SandboxServer(orders=5, contract=ServedContract(moved={"orders.search": "/elsewhere"})) as sandbox:
        answer, done = doctor(sandbox, redis_url, tmp_path)
        assert (done.returncode, answer["ok"]) == (1, False)
        (problem,) = findings_of(answer, "contract", "problem")
        assert "/order/v1/orders, /v1/orders" in problem


def test_gateway_away(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """No gateway: exit 3."""
    away = f"http://127.0.0.1:{free_port()}"
    answer, done = doctor(sandbox, redis_url, tmp_path, api__base_url=away, api__attempts="1")
    assert (done.returncode, answer["ok"]) == (3, False)
    assert away in findings_of(answer, "login", "problem")[0]


def test_wrong_settings(tmp_path: Path) -> None:
    """Settings that cannot be used: exit 2, in the same form as every other finding."""
    done = ordersync("doctor", "--json", cwd=tmp_path, api__page_size="many")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"]) == (2, False)
    assert "ORDERSYNC_API__PAGE_SIZE" in findings_of(answer, "settings", "problem")[0]
    done = ordersync("doctor", cwd=tmp_path)
    assert done.returncode == 2
    assert "No login for OrderMesh" in done.stdout
    # The embedded server runs beside a worker only, and this one would not start: no account could ever be added.
    assert "set ORDERSYNC_REDIS__URL and ORDERSYNC_SECRET_KEY, and run: ordersync accounts add" in done.stdout


def test_on_a_terminal(tmp_path: Path) -> None:
    """A finding is folded below its own text, at spaces."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "worker.cli", "doctor"],
            cwd=tmp_path,
            env=program_env() | {"COLUMNS": "80", "NO_COLOR": "1"},
            stdout=theirs,
            check=False,
            timeout=PATIENCE,
        )
        shown = os.read(ours, 10_000).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    finding, verdict = shown.rstrip().split("\n\n")
    first, *more = finding.split("\n")
    assert first == "settings  problem  No login for OrderMesh. Set ORDERSYNC_API__CLIENT_ID and"
    assert len(more) > 1
    assert all(len(line) <= 80 and re.match(r" {19}\S", line) for line in more)
    assert " ".join([first[19:], *(line[19:] for line in more)]) in ordersync("doctor", cwd=tmp_path).stdout
    assert verdict == "The worker cannot run: 1 problem."


def test_probe_command(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The probe by itself: chosen resources, what was found last, and the exit code."""
    settings = login_settings(sandbox, redis_url, tmp_path)
    done = ordersync("contract", "probe", "orders", "notes", "--json", cwd=tmp_path, **settings)
    found = json.loads(done.stdout)
    assert (done.returncode, [one["resource"] for one in found]) == (0, ["orders", "notes"])
    asked = sandbox.requests.count()
    kept = ordersync("contract", "probe", "--kept", "--json", cwd=tmp_path, **settings)
    assert [one["resource"] for one in json.loads(kept.stdout)] == ["orders", "notes"]
    assert sandbox.requests.count() == asked
    text = ordersync("contract", "probe", "orders", cwd=tmp_path, **settings).stdout
    assert "first page              1" in text
    wrong = ordersync("contract", "probe", "order", cwd=tmp_path, **settings)
    assert wrong.returncode == 2
    assert "Unknown resource 'order'" in wrong.stderr
    sandbox.auth.permit({"note": {"get"}})
    assert ordersync("contract", "probe", "orders", cwd=tmp_path, **settings).returncode == 1
    assert ordersync("contract", "probe", "shipments", cwd=tmp_path, **settings).returncode == 0


@pytest.mark.parametrize("operation", ["clients.token", "orders.search"])
def test_a_gateway_that_asks_to_wait(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, operation: str
) -> None:
    """The doctor does not wait for half a minute again and again: it says who asks for it."""
    sandbox.faults.replace([FaultRule("status", operation=operation, code=429, retry_after=30)])
    answer, done = doctor(sandbox, redis_url, tmp_path)
    (problem,) = findings_of(answer, "login" if operation == "clients.token" else "contract", "problem")
    assert f"{operation}: status 429" in problem
    assert "OrderMesh asks to wait 30 s before the next request" in problem
    assert done.returncode == 1


@pytest.mark.parametrize(("path", "code"), [("orders", 1), ("notes", 0)])
def test_a_list_that_fails(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, *, path: str, code: int
) -> None:
    """A polled list that fails stops the worker; one that is not polled does not, and gets no advice."""
    sandbox.faults.replace([FaultRule("status", operation=f"{path}.search", code=500)])
    answer, done = doctor(sandbox, redis_url, tmp_path)
    level = "problem" if code else "note"
    (failed,) = [one for one in answer["findings"] if f"{path}.search: status 500" in one["text"]]
    assert (failed["level"], answer["ok"], done.returncode) == (level, not code, code)
    assert failed["text"].startswith("notes (not polled): ") == (not code)
    assert not [one for one in answer["findings"] if "(not polled)" in one["text"] and one["advice"]]


@pytest.mark.parametrize(
    ("operation", "silence", "level", "code"),
    [("orders.search", 0.4, "problem", 3), ("notes.search", 5.0, "note", 0)],
)
def test_a_gateway_that_does_not_answer(
    sandbox: SandboxServer,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    operation: str,
    silence: float,
    level: str,
    code: int,
) -> None:
    """A list without an answer ends the check, which says what was not finished: a problem if that is polled."""
    monkeypatch.setattr("worker.cli.doctor.MAX_SILENCE", silence)
    sandbox.faults.replace([FaultRule("hang", operation=operation)])
    answer, done = doctor(sandbox, redis_url, tmp_path, "--timeout", "120")
    (silent,) = [one for one in answer["findings"] if "OrderMesh has answered no request" in one["text"]]
    assert (silent["area"], silent["level"]) == ("contract", level)
    assert "was not finished" in silent["text"]
    assert done.returncode == code


@pytest.mark.parametrize(
    ("operation", "first", "code"), [("orders.search", "orders", 1), ("notes.search", "notes", 0)]
)
def test_a_gateway_that_takes_too_long(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, *, operation: str, first: str, code: int
) -> None:
    """What was not checked when the time is over is named: a problem if it is polled, which is checked first."""
    sandbox.faults.replace([FaultRule("hang", operation=operation)])
    for seconds in ("2", "9", "60", "600"):  # a busy machine comes so far later
        answer, done = doctor(sandbox, redis_url, tmp_path, "--timeout", seconds, api__timeout="600")
        unchecked = [one for one in answer["findings"] if one["text"].startswith("not checked within")]
        if unchecked and unchecked[0]["text"].startswith(f"not checked within {seconds} s: {first}, "):
            break
    (finding,) = unchecked
    assert finding["text"].endswith(", clock")
    assert "login" not in finding["text"]
    assert finding["advice"] == "to check it: ordersync doctor --account default --timeout 120"
    assert (finding["level"], answer["ok"]) == (("note", True) if code == 0 else ("problem", False))
    assert done.returncode == code


def test_a_redis_that_takes_too_long(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Neither it nor anything after it was checked; the last line does not say that the worker cannot run."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        settings = login_settings(sandbox, url, tmp_path)
        done = ordersync("doctor", "--timeout", "1", cwd=tmp_path, **settings)
    assert "problem  not checked within 1 s: Redis, logins and contracts" in done.stdout
    assert "-> to check it: ordersync doctor --timeout 120" in done.stdout
    assert done.stdout.splitlines()[-1] == "Not all that the worker needs was checked: 1 problem."
    assert done.returncode == 1
