"""Every command, in a Redis and at a gateway whose every word is hostile: nothing of it has an effect on a terminal."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import LEAVES, ordersync
from tests.support.hostile import FAKED, problems
from tests.support.hostile_state import HOSTILE, fill
from tests.support.programs import login_settings
from worker.sandbox import FaultRule, SandboxServer, ServedContract

NO_OUTPUT = {"completion", "sandbox", "run", "consume", "forward", "ui"}
"""No words of others, or tested with their output elsewhere; `run --once` is added below."""
VISIBLE = "\\x1b[2J"
SILENT = {"accounts list", "config show", "dead drop", "health", "run --once", "schema"}
"""Commands that have no reason to show a word of others here."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "accounts add": ("acme", "--client-id", "x", "--set", HOSTILE),
    "accounts disable": (HOSTILE, "--reason", "x"),
    "accounts enable": (HOSTILE,),
    "accounts remove": (HOSTILE, "--yes"),
    "dead show": ("orders", "1-1"),
    "dead replay": ("1-1",),
    "dead drop": ("--all", "--yes"),
    "groups drop": (HOSTILE, "--yes"),
    "groups create": (HOSTILE, "orders"),
    "groups show": (HOSTILE,),
    "erase": (HOSTILE, "--dry-run"),
    "replay": ("--group", HOSTILE, "--since", "9999d"),
    "runs show": ("abcd",),
    "timeline": (HOSTILE,),
    "pause": ("notes", "--reason", HOSTILE, "--by", HOSTILE),
    "tail": ("--no-follow",),
    "resync": ("orders", "--id", HOSTILE, "--dry-run"),
    "resyncs cancel": (HOSTILE,),
    "resyncs resume": (HOSTILE,),
    "contract show": ("--operation", HOSTILE),
    "contract import": ("vendor.json",),
    "runs list": (),
}


@pytest.fixture(scope="module")
def hostile_gateway() -> Iterator[SandboxServer]:
    """An OrderMesh with a hostile wrapper and hostile refusals."""
    faults = [
        FaultRule(
            "status", operation=key, code=400, body=json.dumps({"message": HOSTILE, "traceId": HOSTILE})
        )
        for key in ("orders.get", "shipments.search")
    ]
    faults.append(FaultRule("garbage", operation="notes.search", body=HOSTILE))
    with SandboxServer(
        orders=3,
        contract=ServedContract(wrapper_key=json.dumps(f"\x1b[2Jdata\n{FAKED}\u202e")[1:-1]),
        faults=faults,
    ) as server:
        yield server


PATHS = sorted({"run --once", *LEAVES} - NO_OUTPUT)


@pytest.mark.parametrize("path", PATHS)
def test_a_command_prints_only_what_is_printable(
    hostile_gateway: SandboxServer, redis_url: str, tmp_path: Path, path: str
) -> None:
    """On both streams, as text and as JSON, whatever its exit code; nothing ends in a traceback."""
    fill(redis_url)
    (tmp_path / "vendor.json").write_text(
        json.dumps(
            {
                "openapi": "3.0.0",
                "info": {"title": HOSTILE},
                "paths": {"/pets": {"get": {"summary": HOSTILE}}},
            }
        )
    )
    settings = login_settings(hostile_gateway, redis_url, tmp_path, api__attempts="1", log__format="console")
    words = (*path.split(), *COMMANDS.get(path, ()))
    texts = []
    for extra in ((), ("--json",)):
        done = ordersync(*words, *extra, cwd=tmp_path, **settings)
        assert "Traceback" not in done.stderr, done.stderr
        if extra and done.stdout:
            for line in done.stdout.splitlines():
                json.loads(line)
        texts += [done.stdout, done.stderr]
    assert (VISIBLE in "".join(texts)) is (path not in SILENT), "does it show none of these words any more?"
    assert [problem for text in texts for problem in problems(text)] == []


CLAIMS = {"scope": f"orders.read {HOSTILE}", "scp": [HOSTILE], "realm_access": {"roles": [HOSTILE]}}
GRANTS: dict[str, dict[str, object]] = {
    "permissions": {
        "roles": [
            {
                "name": HOSTILE,
                "permissionSet": [{"resourceName": HOSTILE, "associatedPermissions": [{"name": HOSTILE}]}],
            }
        ]
    },
    "scopes of the answer": {"roles": [HOSTILE], "permissions": HOSTILE, **CLAIMS},
    "scopes of the token": {
        "accessToken": f"e30.{base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).decode().rstrip('=')}.c2ln"
    },
}


@pytest.mark.parametrize("grants", GRANTS)
def test_what_a_login_grants_is_printable(redis_url: str, tmp_path: Path, grants: str) -> None:
    """Names of permissions, roles and scopes are a gateway's words: `doctor` shows them without their effect."""
    answer = {"accessToken": "a-token", "expiresIn": 600, **GRANTS[grants]}
    rule = FaultRule("garbage", operation="clients.token", body=json.dumps(answer))
    texts = []
    with SandboxServer(orders=1, faults=[rule]) as server:
        settings = login_settings(server, redis_url, tmp_path, api__attempts="1", log__format="console")
        for extra in ((), ("--json",)):
            done = ordersync("doctor", *extra, cwd=tmp_path, **settings)
            assert "Traceback" not in done.stderr, done.stderr
            if extra:
                found = [each["text"] for each in json.loads(done.stdout)["findings"]]
            else:
                found = done.stdout.splitlines()
            (shown,) = [text for text in found if "permissions: " in text or "token contains" in text]
            assert ("\x1b[2J" if extra else VISIBLE) in shown
            texts += [done.stdout, done.stderr]
    assert [problem for text in texts for problem in problems(text)] == []
