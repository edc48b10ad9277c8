"""Record the keys that the program of an earlier revision writes: `python -m tests.support.layouts LAYOUT REVISION`.

The program reads six orders of its own sandbox (`--orders 6 --seed 7`) with `ordersync run --once`, and again after
three of them have changed. Left out are the access token, and what depends on the address of the gateway.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import redis

from tests.support.programs import program_env
from tests.support.releases import Release, released
from tests.support.servers import Server

LEFT_OUT = ("ordersync:gateway:", "ordersync:{default}:source", "ordersync:{default}:token")
CONTRACT = "ordersync:{default}:contract"


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def keys_of(client: Any) -> dict[str, Any]:
    """The keys of a server with their types and values."""
    found = {}
    for key in sorted(map(bytes.decode, client.keys("*"))):
        if key.startswith(LEFT_OUT) or key == CONTRACT:
            continue
        kind = client.type(key).decode()
        match kind:
            case "string":
                value: Any = _text(client.get(key))
            case "hash":
                value = {_text(name): _text(item) for name, item in sorted(client.hgetall(key).items())}
            case "list":
                value = list(map(_text, client.lrange(key, 0, -1)))
            case "set":
                value = sorted(map(_text, client.smembers(key)))
            case "zset":
                value = {_text(name): score for name, score in client.zrange(key, 0, -1, withscores=True)}
            case "stream":
                value = [
                    [_text(entry), [_text(each) for pair in fields.items() for each in pair]]
                    for entry, fields in client.xrange(key)
                ]
            case other:
                raise AssertionError(other)
        found[key] = {"type": kind, "value": value}
    return found


def record(release: Release, folder: Path) -> dict[str, Any]:
    """Run the program, and return the keys that it has written."""
    server = Server(folder)
    server.start()
    sandbox = subprocess.Popen(
        [release.command, "sandbox", "--port", "0", "--orders", "6", "--seed", "7",
         "--changes-per-second", "0", "--json"],
        cwd=folder, env=program_env(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert sandbox.stdout is not None
        gateway = json.loads(sandbox.stdout.readline())
        settings = {
            "api__base_url": gateway["url"],
            "api__client_id": gateway["client_id"],
            "api__client_secret": gateway["client_secret"],
            "redis__url": server.url,
            "poll__intervals": '{"orders": 1}',
            "data_dir": str(folder),
        }
        for changes in (0, 3):
            if changes:
                urllib.request.urlopen(f"{gateway['url']}/_sandbox/change?n={changes}", data=b"").close()  # noqa: S310 - loopback
            subprocess.run(
                [release.command, "run", "--once"], cwd=folder, env=program_env(**settings), check=True
            )
        with redis.Redis.from_url(server.url) as client:
            return keys_of(client)
    finally:
        sandbox.terminate()
        sandbox.wait()
        server.stop(kill=True)


def main() -> None:
    """Record one."""
    layout, revision = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="ordersync-layout-") as name:
        recorded = record(released(revision), Path(name))
    path = Path(__file__).with_name(f"{layout}.json")
    path.write_text(json.dumps(recorded, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
