"""Render the chart in deploy/helm with Helm's own engine, and check manifests against the schemas of Kubernetes.

Neither is a dependency of this project: `helm-python-sdk` has Helm as a library, `kubernetes-validate` the schemas.
They run in a process of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.node import install, installing
from tests.support.paths import ROOT

CHART = ROOT / "deploy" / "helm"
PACKAGES = ("helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0")
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
    were `refused`. The test ends where the packages cannot be had.
    """
    with installing("helm") as folder:
        command = (sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder))
        install(folder, PACKAGES, command, 300)
    custom = ["monitoring.coreos.com", "keda.sh"]
    task = {"chart": str(CHART), "values": values, "version": version, "custom": custom}
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
