"""What people and machines look at: each surface of the drill returns what it shows now."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Callable, Mapping
from types import MappingProxyType

import httpx

from tests.chaos.drill.scene import Scene
from tests.support.commands import ordersync
from tests.support.programs import ordersync_process, program_env


def status(scene: Scene) -> str:
    """Return what `ordersync status` prints. It runs in this process, which must be in its main thread."""
    done = ordersync("status", cwd=scene.folder, **scene.settings)
    return done.stdout + done.stderr


def page(scene: Scene) -> str:
    """Return the words of the page that the worker serves, or why there is none."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{scene.port}/", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return f"no answer: {type(error).__name__}"
    words = re.sub(r"<(/?)(a|abbr|b|code|em|span|strong|time)\b[^>]*>", "", answer.text)
    return "\n".join(" ".join(line.split()) for line in re.split(r"<[^>]*>", html.unescape(words)))


def log(scene: Scene) -> str:
    """Return the log at the level of the settings."""
    return scene.daemon.err


def health(scene: Scene) -> str:
    """Return what `ordersync health` prints on the host of the worker."""
    if scene.clock is None:
        done = ordersync_process("health", cwd=scene.folder, **scene.settings)
    else:
        done = subprocess.run(
            scene.clock.command("health"),
            cwd=scene.folder,
            env=program_env(**scene.settings),
            capture_output=True,
            text=True,
            check=False,
        )
    return done.stdout + done.stderr


def alert(scene: Scene) -> str:
    """Return a line for each alert that fires: its name, and the section of its cause."""
    return "\n".join(
        f"{each['labels']['alertname']} {each['annotations'].get('cause', each['annotations']['runbook'])}"
        for each in scene.prometheus.alerts() or []
        if each["state"] == "firing"
    )


Surface = Callable[[Scene], str]
SURFACES: Mapping[str, Surface] = MappingProxyType(
    {"status": status, "page": page, "log": log, "health": health, "alert": alert}
)
