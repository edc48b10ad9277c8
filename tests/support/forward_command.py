"""`ordersync forward` at work between a stream and a receiver."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import ordersync
from tests.support.consuming import Stage
from tests.support.programs import Program
from tests.support.webhooks import WebhookReceiver


@dataclass(slots=True)
class Shop:
    """A stream, a receiver, and `ordersync forward` between them for group g."""

    stage: Stage
    receiver: WebhookReceiver
    url: str
    folder: Path

    def once(self, *words: str, to: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Forward to the end."""
        command = (
            "forward",
            "--group",
            "g",
            "--name",
            "c1",
            "--once",
            "--to",
            to or self.receiver.url,
            *words,
        )
        return ordersync(*command, cwd=self.folder, redis__url=self.url, **settings)

    def program(self, *words: str, name: str = "c1", to: str = "", **settings: str) -> Program:
        """Forward beside the test."""
        command = ("forward", "--group", "g", "--name", name, "--to", to or self.receiver.url, *words)
        return Program(
            self.folder, sys.executable, "-m", "worker.cli", *command, redis__url=self.url, **settings
        )


def in_order(receiver: WebhookReceiver) -> bool:
    """Whether the events of each entity came in the order of their versions, but for repetitions."""
    newest: dict[str, int] = {}
    for event in receiver.taken:
        subject, version = event["subject"], int(event["version"])
        if version > newest.get(subject, 0) + 1:
            return False
        newest[subject] = max(newest.get(subject, 0), version)
    return True


async def is_done(shop: Shop) -> bool:
    """Whether every event was acknowledged."""
    return await shop.stage.pending() == {}
