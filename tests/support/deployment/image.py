"""Runs the steps of the Dockerfile without a container engine, and the daemon out of what they made.

    python -m tests.support.deployment.image        # as root, on Linux

A folder stands for each stage. The programs and libraries of this machine are seen in it, read-only, in place of
those of the base image; the steps run in it as root, as an engine would run them. Then the daemon is started in the
folder of the last stage as the engine would start it with `--read-only --cap-drop ALL --security-opt
no-new-privileges`: under the user of the image, as process 1, with nothing that can be written but its volume.
What this does not show: the base image itself, and what an engine adds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tests.support.deployment.dockerfile import Instruction, Stage, stages
from tests.support.paths import ROOT

PASSED_ON = ("PIP_", "SSL_CERT_", "REQUESTS_CA_", "http_proxy", "https_proxy", "no_proxy")
"""Names of variables that say how this machine reaches its index of packages; the Dockerfile has nothing of it."""
SECONDS = 120.0
READER = "from worker.capture.records.compiled import missing; print(missing, end='')"
_LEFT_OUT = ("shadow", "shadow-", "gshadow", "gshadow-", "ssl/private")


def say(words: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def fail(words: str) -> NoReturn:
    """End with a sentence."""
    sys.exit(f"FAILED: {words}")


def call(*words: str) -> None:
    """Run a program of the machine."""
    subprocess.run(words, check=True)


class Folder:
    """The file system of one stage."""

    def __init__(self, place: Path) -> None:
        self.place, self.workdir = place, "/"
        self.env = {"PATH": "/base/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
        place.mkdir(mode=0o755)
        call("mount", "--bind", str(place), str(place))
        for name in ("base/bin", "root", "tmp", "var", "opt", "run", "proc", "dev"):
            (place / name).mkdir(parents=True)
        (place / "tmp").chmod(0o1777)
        self._etc()
        self._machine()

    def _etc(self) -> None:
        call("cp", "-a", "/etc", str(self.place / "etc"))
        for name in _LEFT_OUT:
            left = self.place / "etc" / name
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def _machine(self) -> None:
        for name in ("usr", "bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (self.place / name).symlink_to(Path("/", name).readlink())
            elif Path("/", name).is_dir():
                self._see(Path("/", name))
        self._see(Path(sys.base_prefix))
        for value in passed_on().values():
            if value.startswith("/") and Path(value).exists():
                self._see(Path(value))
        for name in ("null", "zero", "random", "urandom"):
            (self.place / "dev" / name).touch()
            call("mount", "--bind", f"/dev/{name}", str(self.place / "dev" / name))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for name in ("python", "python3"):
            (self.place / "base" / "bin" / name).symlink_to(Path(sys.base_prefix) / "bin" / version)

    def _see(self, path: Path) -> None:
        """Let a part of the machine be seen, read-only."""
        seen = self.place / path.relative_to("/")
        if seen.exists():
            return
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.mkdir() if path.is_dir() else seen.touch()
        call("mount", "--bind", str(path), str(seen))
        call("mount", "-o", "remount,bind,ro", str(seen))
        if not os.statvfs(seen).f_flag & os.ST_RDONLY:
            fail(f"{path} could be written through {seen}")

    def inside(self, path: str) -> Path:
        """Where a path of the image is."""
        return self.place / str(Path(self.workdir, path)).lstrip("/")

    def shell(self, command: str) -> None:
        """A step in the shell form, as root."""
        words = ["chroot", str(self.place), "/bin/sh", "-ec", f"cd {self.workdir}\n{command}"]
        done = subprocess.run(words, env=self.env | passed_on(), check=False)
        if done.returncode:
            fail(f"RUN {command} ended with {done.returncode}")

    def copy(self, step: Instruction, source: Path) -> None:
        """A step COPY, out of the project or another stage."""
        *names, target = step.words
        for name in names:
            into = self.inside(target)
            origin = source / name.lstrip("/")
            if origin.is_dir():
                left_out = shutil.ignore_patterns("__pycache__", "*.so") if source == ROOT else None
                shutil.copytree(origin, into, symlinks=True, ignore=left_out, dirs_exist_ok=True)
            else:
                shutil.copy2(origin, into)

    def put(self, step: Instruction) -> None:
        """A step ENV."""
        for pair in step.words:
            name, _, value = pair.partition("=")
            self.env[name] = string.Template(value).substitute(self.env)


def passed_on() -> dict[str, str]:
    """What pip needs to know of this machine."""
    found = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    own = Path("~/.config/pip/pip.conf").expanduser()
    return (
        found
        | {"PIP_QUIET": "1"}
        | ({"PIP_CONFIG_FILE": "/etc/pip-of-the-machine.conf"} if own.exists() else {})
    )


def build(place: Path) -> tuple[Folder, Stage]:
    """Run every step of every stage."""
    made: dict[str, Folder] = {}
    for number, stage in enumerate(stages(ROOT / "Dockerfile")):
        folder = made[stage.name] = Folder(place / f"stage-{number}")
        own = Path("~/.config/pip/pip.conf").expanduser()
        if own.exists():
            shutil.copy2(own, folder.place / "etc" / "pip-of-the-machine.conf")
        for step in stage.instructions:
            say(f"{step.name} {step.rest[:110]}")
            match step.name:
                case "RUN":
                    folder.shell(step.rest)
                case "COPY":
                    source = step.flags.get("from")
                    folder.copy(step, made[source].place if source else ROOT)
                case "ENV":
                    folder.put(step)
                case "WORKDIR":
                    folder.workdir = step.rest
                    folder.inside(".").mkdir(parents=True, exist_ok=True)
    return folder, stage


class Container:
    """The last stage, as an engine runs it."""

    def __init__(self, folder: Folder, image: Stage, volume: Path) -> None:
        self._folder, self._image = folder, image
        (at,) = image.one("VOLUME").words
        inside = folder.inside(at)
        owner = inside.stat()
        volume.mkdir(mode=0o700)
        os.chown(volume, owner.st_uid, owner.st_gid)
        call("mount", "--bind", str(volume), str(inside))
        call("mount", "-o", "remount,bind,ro", str(folder.place))
        uid, gid = image.one("USER").rest.split(":")
        self._as_user = [
            *("chroot", str(folder.place), "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
            *("sh", "-c", f'cd {folder.workdir} && exec "$@"', "sh"),
        ]
        self.env = {**folder.env, "HOME": folder.workdir}

    def do(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end."""
        return subprocess.run(
            [*self._as_user, *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def start(self, log: Path, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start its entry point as process 1 of a namespace of its own."""
        program = self._image.one("ENTRYPOINT").words + (list(words) or self._image.one("CMD").words)
        mount = f'mount -t proc proc "{self._folder.place}/proc" && exec "$@"'
        apart = ["unshare", "--pid", "--mount", "--propagation", "private", "--fork", "--kill-child"]
        with log.open("wb") as output:
            return subprocess.Popen(
                [*apart, "sh", "-c", mount, "sh", *self._as_user, *program],
                env=self.env | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def first(process: subprocess.Popen[bytes]) -> int:
    """Process 1 of the namespace, as the machine knows it."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def wait_for(words: str, so: Callable[[], Any], log: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until it is so, and say it; fail with the log."""
    deadline = time.monotonic() + SECONDS
    while not so():
        if process.poll() is not None or time.monotonic() > deadline:
            fail(f"not so: {words}. Its log:\n{log.read_text()}")
        time.sleep(0.1)
    say(f"ok: {words}")


def expect(words: str, so: object) -> None:
    """It is so, or this fails."""
    if not so:
        fail(f"not so: {words}")
    say(f"ok: {words}")


def check(folder: Folder, image: Stage, place: Path) -> None:
    """The daemon of the image, at work on the sandbox of the image, with an embedded server."""
    container, home = Container(folder, image, place / "volume"), folder.workdir
    expect("what builds is not in the image", container.do("ls", "/build", "/src").returncode)
    expect("there is no pip beside the daemon", container.do("ls", "/opt/ordersync/bin/pip").returncode)
    reader = container.do("/opt/ordersync/bin/python", "-c", READER)
    expect("the compiled reader is in the image", (reader.returncode, reader.stdout) == (0, ""))
    for path in ("/opt/ordersync", "/etc", "/usr", "/"):
        refused = container.do("touch", f"{path}/x")
        expect(f"{path} cannot be written", refused.returncode and "Read-only file system" in refused.stderr)
    expect("its volume can be written", container.do("touch", f"{home}/x").returncode == 0)

    log = place / "sandbox.log"
    sandbox = container.start(
        log, "sandbox", "--port", "0", "--orders", "50", "--changes-per-second", "0", "--json"
    )
    wait_for("the sandbox listens", lambda: log.read_text().startswith("{"), log, sandbox)
    ready = json.loads(log.read_text().splitlines()[0])

    log = place / "daemon.log"
    login = {f"ORDERSYNC_API__{name.upper()}": ready[name] for name in ("client_id", "client_secret")}
    daemon = container.start(log, ORDERSYNC_API__BASE_URL=ready["url"], **login)
    healthy = image.one("HEALTHCHECK").rest.removeprefix("CMD ")
    words = json.loads(healthy)
    wait_for(f"{' '.join(words)} succeeds", lambda: container.do(*words).returncode == 0, log, daemon)
    wait_for("orders were read", lambda: '"snapshot": 50' in log.read_text(), log, daemon)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{first(daemon)}/status").read_text().splitlines()
    )
    uid = image.one("USER").rest.split(":")[0]
    expect(f"it runs under user {uid}", status["Uid"].split() == [uid] * 4)
    expect(
        "it has no capabilities and gets none", int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
    )
    expect("it is process 1, where signals arrive that it handles", status["NSpid"].split()[-1] == "1")
    os.kill(first(daemon), getattr(signal, image.one("STOPSIGNAL").rest))
    try:
        ended = daemon.wait(SECONDS)
    except subprocess.TimeoutExpired:
        fail(f"it does not end. Its log:\n{log.read_text()}")
    expect("its stop signal ends it in order", ended == 0 and '"event": "stopped"' in log.read_text())
    expect("then it is not healthy any more", container.do(*words).returncode == 1)
    os.kill(first(sandbox), signal.SIGTERM)
    sandbox.wait(SECONDS)


def main() -> None:
    """Build and check, in a name space of mounts of its own, and leave nothing behind."""
    if "--inside" in sys.argv:
        place = Path(sys.argv[-1])
        check(*build(place), place)
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        fail("needs root on Linux, to mount folders")
    # Out here nothing is mounted in the folder, so nothing but the folder is removed with it.
    with tempfile.TemporaryDirectory(prefix="ordersync-image-") as made:
        inside = [sys.executable, "-m", "tests.support.deployment.image", "--inside", made]
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", *inside], cwd=ROOT, check=False
        )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
