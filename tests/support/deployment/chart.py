"""Render the chart in deploy/helm with Helm's own engine, and check manifests against the schemas of Kubernetes.

None of this is a dependency of this project: `helm-python-sdk` has Helm as a library, `kubernetes-validate` the schemas
of Kubernetes, and packages of npm those of its operators. They run in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.distributions import pip_into
from tests.support.generators import script
from tests.support.node import install, installing, modules_with
from tests.support.paths import ROOT

CHART = ROOT / "deploy" / "helm"
PACKAGES = ("helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0")
CUSTOM = {
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator@6.0.0",
    "keda.sh": "@kubernetes-models/keda@2.0.0",
}
"""The groups of the kinds that operators add, and the package with their schemas."""
_SCRIPT = """
import json, sys
import helm_python as helm
import kubernetes_validate, yaml

task = json.load(sys.stdin)
chart = helm.Chart.load(task["chart"])
answers = []
for values in task["values"]:
    try:
        chart.validate_schema(chart.merge_values(values))
        files = chart.render(values, name="demo", namespace="prod")
    except helm.HelmError as error:
        answers.append({"refused": str(error)})
        continue
    manifests = [
        each
        for name, text in sorted(files.items())
        if name.endswith(".yaml")
        for each in yaml.safe_load_all(text)
        if each
    ]
    problems = []
    for manifest in manifests:
        if manifest["apiVersion"].partition("/")[0] in task["custom"]:
            continue
        try:
            kubernetes_validate.validate(manifest, task["version"], strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{manifest['kind']}: {error.message}")
    answers.append({"manifests": manifests, "problems": problems})
print(json.dumps({"answers": answers, "lint": helm.lint(task["chart"], task["values"][0])}))
"""


def rendered(*values: dict[str, Any], version: str = "1.37") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Render the chart with each of these values; return the answers, and what `helm lint` says to the first.

    An answer has `manifests` and the `problems` that the schemas of this version of Kubernetes find, or why the values
    were `refused`. Kinds of operators are left out: see `custom_problems`. The test ends where the packages cannot be
    had.
    """
    with installing("helm") as folder:
        install(folder, PACKAGES, pip_into(folder), 300)
    task = {"chart": str(CHART), "values": values, "version": version, "custom": list(CUSTOM)}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps(task),
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    return result["answers"], result["lint"]


def custom_problems(folder: Path, manifests: list[dict[str, Any]]) -> list[list[str]]:
    """What the schemas of the operators find in each of these manifests, and fields of a spec that they do not know.

    `folder`: an empty one. The test ends where Node or the packages cannot be had.
    """
    text = (ROOT / "tests" / "support" / "deployment" / "custom_kinds.mjs").read_text(encoding="utf-8")
    modules = modules_with(*CUSTOM.values(), folder="operators")
    found: list[list[str]] = script(folder, modules, text, given=json.dumps(manifests))
    return found
