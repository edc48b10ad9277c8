"""deploy/compose.yaml: valid, confined, and in step with the image, the settings and the secrets."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from dotenv import dotenv_values

from tests.support.commands import ordersync
from tests.support.deployment.deployed import DEPLOY, deployed, make_secrets
from tests.support.deployment.dockerfile import stages
from tests.support.node import modules_with
from tests.support.paths import ROOT
from tests.support.tools import program
from worker.config.settings import secret_names
from worker.sandbox import CLIENT_ID, CLIENT_SECRET
from worker.service import daemon

FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DCLINT = "3.1.0"
"""The version of a linter that has the schema of the Compose specification with it."""


def seconds(text: str) -> int:
    """A duration such as 40s."""
    assert text.endswith("s")
    return int(text[:-1])


def test_it_is_what_the_specification_calls_valid() -> None:
    """By the JSON schema of the Compose specification, and without an error of a linter that knows more than it."""
    modules = modules_with(f"dclint@{DCLINT}")
    package = modules / "dclint"
    schema = json.loads((package / "schemas" / "compose.schema.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["worker"]["stop_graceperiod"] = "1s"
    assert not validator.is_valid(broken)
    linter = modules / ".bin" / "dclint"
    done = subprocess.run(
        [str(linter), "--formatter", "json", str(FILE)], capture_output=True, text=True, check=False
    )
    assert sum(each["errorCount"] for each in json.loads(done.stdout)) == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    """Nothing of its root can be written, no capability, no way to more rights, bounds on memory and processes."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert "cap_add" not in service
    user = service.get("user") or stages(ROOT / "Dockerfile")[-1].one("USER").rest
    assert not user.startswith("0")


def test_whoever_runs_has_a_healthcheck() -> None:
    """That of the worker is the one of the image; an operator's command runs to its end."""
    assert "healthcheck" not in SERVICES["worker"]
    assert stages(ROOT / "Dockerfile")[-1].one("HEALTHCHECK").words
    assert SERVICES["operator"]["healthcheck"] == {"disable": True}
    for name in ("redis", "sandbox"):
        assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES["worker"]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_there_is_time_to_end_in_order() -> None:
    """The engine waits for longer than the daemon takes: its grace time, and what closing may take."""
    grace = float(SERVICES["worker"]["environment"]["ORDERSYNC_GRACE_SECONDS"])
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= grace + daemon.CLOSING_SECONDS + 5
    assert seconds(SERVICES["redis"]["stop_grace_period"]) >= 30


def test_profiles() -> None:
    """Without a profile: the worker and Redis. The sandbox, which listens on loopback, is where the worker is."""
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"worker", "redis"}
    assert SERVICES["sandbox"]["profiles"] == ["sandbox"]
    assert SERVICES["sandbox"]["network_mode"] == "service:worker"
    assert "networks" not in SERVICES["sandbox"]


def test_redis_is_seen_by_this_machine_alone() -> None:
    """Its port is published on loopback; it takes everything else from the configuration that is tested."""
    assert [port.split(":")[0] for port in SERVICES["redis"]["ports"]] == ["127.0.0.1"]
    assert COMPOSE["configs"]["redis"]["file"] == "redis/redis.conf"
    assert (DEPLOY / COMPOSE["configs"]["redis"]["file"]).exists()
    assert SERVICES["redis"]["volumes"] == ["events:/data"]


def test_secrets_are_files_that_make_secrets_makes(tmp_path: Path) -> None:
    """Each is there after make-secrets, under the name of its setting where the daemon looks; none is a variable."""
    make_secrets(tmp_path / "secrets", "--sandbox")
    for secret in COMPOSE["secrets"].values():
        path = re.sub(r"\$\{SECRETS_FOLDER:-\./secrets\}", str(tmp_path / "secrets"), secret["file"])
        assert Path(path).is_file(), path
    for name in ("worker", "operator"):
        for secret in SERVICES[name]["secrets"]:
            assert COMPOSE["secrets"][secret["source"]]["file"].endswith(secret["target"])
    assert not re.search(r"(SECRET|PASSWORD|REDIS__URL)\S*:\s*['\"]?\$?\w", json.dumps(COMPOSE["services"]))
    mounted = {secret["target"] for secret in SERVICES["worker"]["secrets"]}
    assert mounted == {file.name for file in (tmp_path / "secrets" / "worker").iterdir()}
    assert secret_names() - {"ORDERSYNC_FORWARD__SECRET"} <= mounted  # that of another program
    given = {file.name: file.read_text() for file in (tmp_path / "secrets" / "worker").iterdir()}
    assert given["ORDERSYNC_API__CLIENT_ID"] == CLIENT_ID
    assert given["ORDERSYNC_API__CLIENT_SECRET"] == CLIENT_SECRET


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """What the file and sandbox.env give the worker is understood by it: a name that is none would end it."""
    given = {**dotenv_values(DEPLOY / "sandbox.env"), **SERVICES["worker"]["environment"]}
    settings = {
        name.removeprefix("ORDERSYNC_").lower(): str(value)
        for name, value in given.items()
        if name.startswith("ORDERSYNC_")
    }
    done = ordersync("config", "show", "--json", cwd=tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["account"], shown["grace_seconds"]) == ("trial", 20)
    assert shown["api"]["base_url"] == "http://127.0.0.1:8099"
    assert "8099" in SERVICES["sandbox"]["command"]
    assert given["COMPOSE_PROFILES"] == "sandbox"
    assert given["SETTINGS_FILE"] == "./sandbox.env"


def test_variables_have_values() -> None:
    """Nothing has to be set; and none of them is taken for a setting of the daemon."""
    variables = re.findall(r"\$\{(\w+)(:-[^}]*)?\}", FILE.read_text())
    assert variables
    assert all(default for _, default in variables)
    assert not [name for name, _ in variables if name.startswith("ORDERSYNC_")]


def test_the_health_of_redis_is_asked_as_the_file_says(tmp_path: Path) -> None:
    """Its command, with redis-cli for valkey-cli and the test's port, succeeds on a server, and not without one."""
    cli = program("redis-cli")
    kind, command = SERVICES["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    with deployed("valkey", tmp_path) as server:
        asked = command.replace("valkey-cli", f"{cli} -p {server.port}")
        assert subprocess.run(["sh", "-c", asked], check=False).returncode == 0
    assert subprocess.run(["sh", "-c", asked], stderr=subprocess.DEVNULL, check=False).returncode != 0


def test_the_command_of_redis_is_one(tmp_path: Path) -> None:
    """Its options are those of the server, in its order: the program, our configuration, and what follows it."""
    program, configuration, *options = SERVICES["redis"]["command"]
    assert program == "valkey-server"
    assert configuration == SERVICES["redis"]["configs"][0]["target"]
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    assert pairs["--aclfile"] == "/run/secrets/users.acl"
    assert pairs["--dir"] == "/data"
    assert shlex.split(pairs["--maxmemory"]) == ["${REDIS_MEMORY:-1gb}"]
