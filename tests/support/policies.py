"""Privacy policies, and what they publish."""

from __future__ import annotations

import json
from typing import Any

from worker.capture.records.hashing import FieldHashes
from worker.capture.records.privacy import RecordPolicy
from worker.capture.records.rules import rule_of

KEY = "tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA"


def policy(key: str = KEY, **rules: str) -> RecordPolicy:
    """A policy of these rules; `__` stands for the dot, `any_` for `**.`."""
    paths = {path.replace("any_", "**.").replace("__", "."): rule_of(rule) for path, rule in rules.items()}
    return RecordPolicy(paths, FieldHashes(key.encode(), "default", "things"))


def published(rules: RecordPolicy, record: Any) -> Any:
    return json.loads(rules.publish(json.dumps(record).encode()))
