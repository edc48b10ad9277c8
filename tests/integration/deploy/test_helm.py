"""deploy/helm: what it renders is valid for Kubernetes, confined, and in step with the image and the settings."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, SecretStr

from tests.support.deployment.chart import CHART, CUSTOM, custom_problems, rendered
from tests.support.paths import ROOT
from worker.config.settings import Settings
from worker.telemetry.catalog.metrics import METRICS

pytestmark = pytest.mark.slow

ALL: dict[str, Any] = {
    "existingSecret": "login",
    "accounts": {"existingSecret": "shops"},
    "settings": {
        "ORDERSYNC_API__PAGE_SIZE": 50,
        "ORDERSYNC_BACKPRESSURE__BYTES": 250_000_000,
        "ORDERSYNC_RECONCILE__SHARE": 0.25,
        "ORDERSYNC_API__ALLOW_HTTP": True,
    },
    "extraEnv": [
        {"name": "ORDERSYNC_PRIVACY__KEY", "valueFrom": {"secretKeyRef": {"name": "own", "key": "key"}}}
    ],
    "probes": {"kind": "http"},
    "metrics": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}},
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "keda": {"enabled": True, "serverAddress": "http://prometheus:9090"},
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
    "polls": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "ssd"}},
}
REFUSED: list[dict[str, Any]] = [
    {},
    {"existingSecret": "x", "replicas": 3},
    {"existingSecret": "x", "settings": {"ORDERSYNC_API__CLIENT_SECRET": "in clear"}},
    {"existingSecret": "x", "settings": {"ORDERSYNC_REDIS__URL": "redis://:in-clear@x"}},
    {"existingSecret": "x", "probes": {"kind": "readiness"}},
    {"existingSecret": "x", "keda": {"enabled": True}},
    {"existingSecret": "x", "accounts": {"existingSecret": "a", "existingConfigMap": "b"}},
    {"existingSecret": "x", "polls": {"concurrency": {"poll": 1}}},
    {"existingSecret": "x", "polls": {"podDisruptionBudget": {"maxUnavailable": "one"}}},
    {"existingSecret": "x", "podLabels": {"app.kubernetes.io/component": "other"}},
    {"existingSecret": "x", "extraEnv": [{"name": "ORDERSYNC_DATA_DIR", "value": "/elsewhere"}]},
    {"existingSecret": "x", "stateSizeLimit": "much"},
    {
        "existingSecret": "x",
        "keda": {"enabled": True, "serverAddress": "http://x", "minReplicas": 5, "maxReplicas": 2},
    },
]


def secret_settings(model: type[BaseModel] = Settings, prefix: str = "ORDERSYNC_") -> Iterator[str]:
    """The names of the secret settings."""
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        if sections := [each for each in inner if issubclass(each, BaseModel)]:
            yield from secret_settings(sections[0], f"{prefix}{name.upper()}__")
        elif SecretStr in inner:
            yield f"{prefix}{name.upper()}"


SECRET = sorted(secret_settings())
REFUSED += [{"existingSecret": "x", "settings": {name: "in clear"}} for name in SECRET]
REFUSED += [{"existingSecret": "x", "extraEnv": [{"name": name, "value": "in clear"}]} for name in SECRET]


@pytest.fixture(scope="module")
def answers() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return rendered({"existingSecret": "login"}, ALL, *REFUSED)


def of_kind(answer: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in answer["manifests"] if each["kind"] == kind]


def containers(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The container of each Deployment, by its component."""
    found = {}
    for each in of_kind(answer, "Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        found[each["metadata"]["labels"]["app.kubernetes.io/component"]] = container
    return found


def test_it_is_what_kubernetes_calls_valid(answers: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    """By the schemas of Kubernetes, for the least and for all values; values that mean nothing are refused."""
    (least, everything, *refused), lint = answers
    assert (least["problems"], everything["problems"]) == ([], [])
    assert (lint["errors"], [each for each in lint["messages"] if each["severity"] > 1]) == ([], [])
    kinds = {each["kind"] for each in least["manifests"]}
    assert kinds == {"Deployment", "PodDisruptionBudget", "ServiceAccount", "NetworkPolicy"}
    assert {each["kind"] for each in everything["manifests"]} == kinds | {
        *("Service", "ServiceMonitor", "PrometheusRule", "ScaledObject"),
    }
    assert [values for values, each in zip(REFUSED, refused, strict=True) if "refused" not in each] == []


def test_kinds_of_operators_are_what_these_call_valid(
    answers: tuple[list[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    """By the schemas of the Prometheus operator and of KEDA, which find a wrong value, and a field of no schema."""
    custom = [each for each in answers[0][1]["manifests"] if each["apiVersion"].partition("/")[0] in CUSTOM]
    assert {each["kind"] for each in custom} == {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
    wrong = copy.deepcopy(custom)
    for each, items in zip(wrong, ("triggers", "endpoints", "groups"), strict=True):
        each["spec"][items][0]["intervall"] = "5s"
    wrong += copy.deepcopy(custom)
    for each in wrong[len(custom) :]:
        each["spec"] = dict.fromkeys(each["spec"], 5)
    found = custom_problems(tmp_path, [*custom, *wrong])
    assert found[: len(custom)] == [[]] * len(custom)
    paths = ["/spec/triggers/0", "/spec/endpoints/0", "/spec/groups/0"]
    assert found[len(custom) : 2 * len(custom)] == [[f"{path}/intervall is unknown"] for path in paths]
    assert all(each and "must be" in each[0] for each in found[2 * len(custom) :])


def test_each_pod_is_confined(answers: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    """Nothing of its root can be written; no capability, no token of the cluster; the user is that of the image."""
    user = next(
        line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("USER")
    )
    for answer in answers[0][:2]:
        for each in of_kind(answer, "Deployment"):
            pod = each["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is False
            own = pod["securityContext"]
            assert f"{own['runAsUser']}:{own['runAsGroup']}" == user
            assert own["runAsNonRoot"] is True
            (container,) = pod["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert [item["name"] for item in container["volumeMounts"] if not item.get("readOnly")] == [
                "state"
            ]
            assert container["args"] == ["run"]
            assert 'ENTRYPOINT ["ordersync"]' in (ROOT / "Dockerfile").read_text()


def test_a_probe_asks_for_progress_alone(answers: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    """Never for freshness: no readiness probe, and what restarts a pod is the liveness of the worker."""
    probes: list[dict[str, Any]] = [
        {"exec": {"command": ["ordersync", "health", "--live"]}},
        {"httpGet": {"path": "/healthz", "port": "metrics"}},
    ]
    for answer, probe in zip(answers[0][:2], probes, strict=True):
        for container in containers(answer).values():
            assert "readinessProbe" not in container
            for name in ("livenessProbe", "startupProbe"):
                assert container[name].items() >= probe.items()


def test_settings_are_those_of_the_program(
    answers: tuple[list[dict[str, Any]], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable is a setting with a value that it takes, and together the Deployments run every class."""
    for answer in answers[0][:2]:
        places: dict[str, list[int]] = {}
        for container in containers(answer).values():
            values = {each["name"]: each["value"] for each in container["env"] if "value" in each}
            assert values["ORDERSYNC_DATA_DIR"].startswith("/var/lib/ordersync/")
            with monkeypatch.context() as patch:
                for name, value in values.items():
                    if name not in {"ORDERSYNC_SECRETS_DIR", "ORDERSYNC_ACCOUNTS_FILE"}:
                        patch.setenv(name, value)
                loaded = Settings()
            assert loaded.metrics.port == 9464
            for lane, count in loaded.concurrency.model_dump().items():
                places.setdefault(lane, []).append(count)
            if "ORDERSYNC_BACKPRESSURE__BYTES" in values:
                # As they were written: Helm takes every number for a fraction.
                written = [values[name] for name in ALL["settings"]]
                assert written == ["50", "250000000", "0.25", "true"]
                assert loaded.backpressure.bytes == 250_000_000
        assert len(places) == 5
        assert all(min(each) == 0 < max(each) for each in places.values())


def test_selectors_select_what_they_are_for(answers: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    """Of each kind: the pods of one Deployment, or of both."""
    for answer in answers[0][:2]:
        pods = [each["spec"]["template"]["metadata"]["labels"] for each in of_kind(answer, "Deployment")]
        selectors = [
            *((each["spec"]["selector"]["matchLabels"], 1) for each in of_kind(answer, "Deployment")),
            *(
                (each["spec"]["selector"]["matchLabels"], 1)
                for each in of_kind(answer, "PodDisruptionBudget")
            ),
            *((each["spec"]["podSelector"]["matchLabels"], 2) for each in of_kind(answer, "NetworkPolicy")),
            *((each["spec"]["selector"], 2) for each in of_kind(answer, "Service")),
        ]
        for selector, count in selectors:
            assert sum(selector.items() <= labels.items() for labels in pods) == count
    everything = answers[0][1]
    (service,), (monitor,) = of_kind(everything, "Service"), of_kind(everything, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {each["name"] for each in service["spec"]["ports"]}


def test_what_scales_and_alerts_reads_metrics_that_exist(
    answers: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    """The rules are those of deploy/prometheus; KEDA, which sets the number of pods alone, reads a metric of ours."""
    everything = answers[0][1]
    (rules,), (scaled,) = of_kind(everything, "PrometheusRule"), of_kind(everything, "ScaledObject")
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    assert set(re.findall(r"ordersync_\w+", query)) <= METRICS.keys()
    # Of this release alone: another one may be scraped by the same Prometheus.
    (service,) = of_kind(everything, "Service")
    job = service["metadata"]["name"]
    assert query == f'max(ordersync_lane_oldest_due_seconds{{lane="polls",namespace="prod",job="{job}"}})'
    (polls,) = [
        each for each in of_kind(everything, "Deployment") if each["metadata"]["name"].endswith("-polls")
    ]
    assert scaled["spec"]["scaleTargetRef"]["name"] == polls["metadata"]["name"]
    assert "replicas" not in polls["spec"]


def test_a_rollout_replaces_what_works_by_what_works(
    answers: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    """One pod more at a time; it counts when it has run for a while: a login that is refused ends it before."""
    for answer in answers[0][:2]:
        for each in of_kind(answer, "Deployment"):
            spec, pod = each["spec"], each["spec"]["template"]["spec"]
            assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
            assert spec["minReadySeconds"] >= 15
            grace = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
            assert pod["terminationGracePeriodSeconds"] > int(grace["ORDERSYNC_GRACE_SECONDS"]) + 10
            (state,) = [item["emptyDir"] for item in pod["volumes"] if item["name"] == "state"]
            assert state == {"medium": "Memory", "sizeLimit": "64Mi"}


def test_the_version_is_that_of_the_program() -> None:
    """A chart names the image of its version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert chart["appVersion"] == chart["version"] == project[1]
