"""Scripted faults: which fault occurs, where, and how often.

Rules come from a TOML or JSON file, or from tests. Every rule that matches a request counts it; the first rule in the
list that is due acts. For example, in TOML:

    [[rule]]
    name = "busy"                # the name in messages
    operation = "orders.search"  # or "*", which is the default
    page = 2                     # only this page
    after = 3                    # three matching requests pass first
    times = 2                    # or "unlimited", which is the default
    action = "status"
    code = 429
    retry_after = 2
"""

from __future__ import annotations

import json
import threading
import tomllib
from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING, Any

from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ACTIONS = {
    "status": "answer with `code`, with `retry_after` and `body` if given",
    "delay": "wait `seconds`, then answer as usual",
    "drop": "close the connection without an answer",
    "truncate": "cut the body in half; content-length is the length of the first half",
    "garbage": "answer 200 with text that is not JSON",
    "not_a_list": "answer a search with an object in place of the list",
    "empty": "answer a search with 200 and an empty list",
    "hang": "never answer, until the client gives up",
    "create": "create `count` orders, then answer as usual",
    "change": "change `count` orders, then answer as usual",
    "delete": "delete the `count` oldest orders, then answer as usual",
}
"""The actions of rules."""

DRIFT_ACTIONS = frozenset({"create", "change", "delete"})
"""Actions that move records to other pages while a client reads them."""
SEARCH_ACTIONS = frozenset({"not_a_list", "empty"})
"""Actions for searches only: a rule with one of them never matches other operations."""


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


CHECKS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (  # field, what is allowed, the check
    ("action", f"one of {', '.join(ACTIONS)}", lambda value: isinstance(value, str) and value in ACTIONS),
    (
        "operation",
        f"* or one of {', '.join(OPERATIONS)}",
        lambda value: isinstance(value, str) and (value == "*" or value in OPERATIONS),
    ),
    ("page", "a whole number from 0", lambda value: value is None or _is_whole(value, 0)),
    ("after", "a whole number from 0", lambda value: _is_whole(value, 0)),
    ("times", 'a whole number from 1 or "unlimited"', lambda value: value is None or _is_whole(value, 1)),
    ("probability", "a number above 0 and up to 1", lambda value: _is_number(value) and 0 < value <= 1),
    ("code", "an HTTP status from 200 to 599", lambda value: _is_whole(value, 200) and value <= 599),
    (
        "retry_after",
        "seconds or an HTTP date",
        lambda value: value is None or _is_number(value) or (isinstance(value, str) and value.isprintable()),
    ),
    ("body", "text", lambda value: value is None or isinstance(value, str)),
    ("count", "a whole number from 1", lambda value: _is_whole(value, 1)),
    ("seconds", "a number from 0", lambda value: _is_number(value) and value >= 0),
    ("name", "text", lambda value: isinstance(value, str)),
)


class FaultRuleError(ValueError):
    """A fault rule, or its file, cannot be used."""

    def __init__(self, rule: str, problem: str) -> None:
        self.rule = rule
        self.problem = problem
        super().__init__(f"{rule}: {problem}")


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault.

    Args:
        action: One of `ACTIONS`.
        operation: Key of an operation, or `*` for any.
        page: Only requests for this page.
        after: Number of matching requests that pass first.
        times: How often the rule acts; in a file also "unlimited", which is the default.
        probability: Share of matching requests, after the first `after`, on which the rule acts.
        code: HTTP status of `status`.
        retry_after: Value of Retry-After with `status`: seconds or a date.
        body: Text of the body with `status` and `garbage`.
        seconds: Seconds that `delay` waits.
        count: Number of orders that `create`, `change` and `delete` change.
        name: Name of the rule in messages; its number if empty.

    Raises:
        FaultRuleError: A value is not allowed; the message contains the rule and the allowed values.
    """

    action: str
    operation: str = "*"
    page: int | None = None
    after: int = 0
    times: int | None = None
    probability: float = 1.0
    code: int = 503
    retry_after: str | float | None = None
    body: str | None = None
    seconds: float = 1.0
    count: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        for key, allowed, is_good in CHECKS:
            if not is_good(getattr(self, key)):
                raise self._error(key, allowed)

    def _error(self, key: str, allowed: str) -> FaultRuleError:
        rule = f"fault rule {self.name!r}" if self.name else f"fault rule for {self.operation!r}"
        return FaultRuleError(rule, f"{key} is {getattr(self, key)!r}; allowed: {allowed}")


class Faults:
    """The active rules and their counts; every method may be called from any thread.

    Args:
        rules: The initial rules.
        seed: Seed of `probability`.
    """

    def __init__(self, rules: Sequence[FaultRule] = (), seed: int = 1) -> None:
        self._lock = threading.Lock()
        self._seed = seed
        self.replace(rules)

    def replace(self, rules: Sequence[FaultRule]) -> None:
        """Replace all rules by these; counts and randomness start again."""
        with self._lock:
            self._rules = tuple(rules)
            self._seen = [0] * len(self._rules)
            self._fired = [0] * len(self._rules)
            self._rng = Random(self._seed)

    def add(self, *rules: FaultRule) -> None:
        """Add rules after the existing ones, whose counts continue."""
        with self._lock:
            self._rules += rules
            self._seen += [0] * len(rules)
            self._fired += [0] * len(rules)

    def clear(self) -> None:
        """Remove all rules."""
        self.replace(())

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The active rules."""
        return self._rules

    def fired(self) -> list[int]:
        """Return how often each rule has acted, in the order of the rules."""
        with self._lock:
            return list(self._fired)

    def decide(self, operation: str, page: int | None = None) -> FaultRule | None:
        """Count one request, and return the rule that acts on it, if there is one.

        Args:
            operation: Key of the operation.
            page: Number of the requested page; None for an operation that is not a list.
        """
        if not self._rules:
            return None
        chosen: FaultRule | None = None
        with self._lock:
            for index, rule in enumerate(self._rules):
                if rule.operation not in ("*", operation) or (rule.page is not None and rule.page != page):
                    continue
                if page is None and rule.action in SEARCH_ACTIONS:
                    continue
                self._seen[index] += 1
                if chosen is None and self._is_due(index, rule):
                    self._fired[index] += 1
                    chosen = rule
        return chosen

    def _is_due(self, index: int, rule: FaultRule) -> bool:
        if self._seen[index] <= rule.after or (rule.times is not None and self._fired[index] >= rule.times):
            return False
        return rule.probability == 1 or self._rng.random() < rule.probability


def load_faults(path: Path) -> tuple[FaultRule, ...]:
    """Return the rules of a file: `[[rule]]` tables in TOML, or `{"rule": [...]}` or a bare list in JSON.

    Raises:
        FaultRuleError: The file cannot be read, or a rule is invalid; the message contains the name or number of the
            rule and the allowed values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise FaultRuleError(f"fault file {path.name}", f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise FaultRuleError(f"fault file {path.name}", f"is not valid {kind}: {error}") from error
    return parse_faults(document)


def parse_faults(document: object) -> tuple[FaultRule, ...]:
    """Return the rules in a decoded document; see `load_faults`.

    Raises:
        FaultRuleError: The document has another layout, or a rule is invalid.
    """
    if isinstance(document, dict):
        unknown = sorted(set(document) - {"rule", "rules"})
        if unknown:
            raise FaultRuleError("faults", f"unknown key {unknown[0]!r}; allowed: rule, a list of rules")
        document = [*_as_list(document.get("rule", [])), *_as_list(document.get("rules", []))]
    return tuple(_rule(number, table) for number, table in enumerate(_as_list(document), start=1))


def _as_list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise FaultRuleError(
            "faults", "rules must be a list; allowed: [[rule]] tables in TOML, a list in JSON"
        )
    return value


def _rule(number: int, table: object) -> FaultRule:
    if not isinstance(table, dict):
        raise FaultRuleError(f"fault rule {number}", f"is {table!r}; allowed: a table of keys and values")
    allowed = [item.name for item in fields(FaultRule)]
    values: dict[str, Any] = {"name": f"#{number}"} | table
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise FaultRuleError(
            f"fault rule {values['name']!r}", f"unknown key {unknown[0]!r}; allowed: {', '.join(allowed)}"
        )
    if "action" not in values:
        raise FaultRuleError(
            f"fault rule {values['name']!r}", f"has no action; allowed: {', '.join(ACTIONS)}"
        )
    if values.get("times") == "unlimited":
        values["times"] = None
    return FaultRule(**values)
