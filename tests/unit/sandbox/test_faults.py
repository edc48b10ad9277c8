import json
from pathlib import Path
from typing import Any

import pytest

from worker.sandbox import FaultRule, FaultRuleError, Faults, load_faults, parse_faults
from worker.sandbox.faults import ACTIONS


def fires(faults: Faults, n: int, operation: str = "orders.search", page: int | None = 1) -> list[bool]:
    return [faults.decide(operation, page) is not None for _ in range(n)]


def test_a_rule_matches_its_operation() -> None:
    """A rule acts on its own operation and on no other."""
    faults = Faults([FaultRule("drop", operation="orders.get")])
    assert fires(faults, 1, "orders.search") == [False]
    assert fires(faults, 1, "orders.get", None) == [True]


def test_a_star_matches_every_operation() -> None:
    """`*` acts on searches, single reads and logins alike."""
    faults = Faults([FaultRule("drop")])
    assert [fires(faults, 1, key, None) for key in ("orders.search", "orders.get", "clients.token")] == [
        [True]
    ] * 3


def test_a_rule_matches_its_page() -> None:
    """A rule with a page acts on requests for that page only."""
    faults = Faults([FaultRule("drop", page=3)])
    assert [fires(faults, 1, page=page)[0] for page in (1, 2, 3, 4, None)] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_after_and_times_bound_a_rule() -> None:
    """A rule lets `after` matching requests pass, then acts `times` times, then never again."""
    faults = Faults([FaultRule("drop", operation="orders.search", after=2, times=3)])
    fires(faults, 10, "orders.get", None)
    assert fires(faults, 8) == [False, False, True, True, True, False, False, False]


def test_without_times_a_rule_never_ends() -> None:
    """`times` left out means without end."""
    assert all(fires(Faults([FaultRule("drop")]), 1_000))


def test_probability_is_seeded() -> None:
    """`probability` acts on about that share of requests, on the same ones for the same seed."""
    rules = [FaultRule("drop", probability=0.3)]
    first, again, other = (fires(Faults(rules, seed=seed), 1_000) for seed in (1, 1, 2))
    assert first == again != other
    assert 240 < sum(first) < 360


def test_the_first_due_rule_acts() -> None:
    """The first rule that is due acts; later ones count the request all the same."""
    faults = Faults([FaultRule("drop", times=1), FaultRule("hang", after=1)])
    actions = [rule.action for _ in range(3) if (rule := faults.decide("orders.search", 1))]
    assert actions == ["drop", "hang", "hang"]
    assert faults.fired() == [1, 2]


@pytest.mark.parametrize("action", ["empty", "not_a_list"])
def test_list_faults_concern_searches_alone(action: str) -> None:
    """A fault of a list is never counted or used up by a request that serves none."""
    faults = Faults([FaultRule(action, times=1)])
    assert fires(faults, 3, "orders.get", None) == [False] * 3
    assert fires(faults, 1) == [True]


def test_replace_add_and_clear() -> None:
    """Replacing starts counts over, adding keeps them, clearing ends all faults."""
    rule = FaultRule("drop", times=1)
    faults = Faults([rule])
    assert fires(faults, 2) == [True, False]
    faults.add(FaultRule("hang", times=1))
    assert fires(faults, 2) == [True, False]
    assert faults.fired() == [1, 1]
    faults.replace([rule])
    assert fires(faults, 2) == [True, False]
    faults.replace([FaultRule("drop")])
    faults.clear()
    assert fires(faults, 2) == [False, False]


TOML = """
[[rule]]
name = "busy"
operation = "orders.search"
action = "status"
code = 429
retry_after = 2
after = 3
times = 2

[[rule]]
operation = "*"
action = "delay"
seconds = 0.5
probability = 0.1
times = "unlimited"
"""


def test_rules_from_toml(tmp_path: Path) -> None:
    """A TOML file holds one `[[rule]]` table for each rule."""
    path = tmp_path / "faults.toml"
    path.write_text(TOML)
    assert load_faults(path) == (
        FaultRule(
            "status", operation="orders.search", code=429, retry_after=2, after=3, times=2, name="busy"
        ),
        FaultRule("delay", seconds=0.5, probability=0.1, name="#2"),
    )


@pytest.mark.parametrize(
    "wrapper", [lambda rules: rules, lambda rules: {"rule": rules}, lambda rules: {"rules": rules}]
)
def test_rules_from_json(tmp_path: Path, wrapper: Any) -> None:
    """A JSON file holds a list of rules, bare or under `rule` or `rules`."""
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(wrapper([{"action": "drop", "page": 2, "name": "cut"}])))
    assert load_faults(path) == (FaultRule("drop", page=2, name="cut"),)


@pytest.mark.parametrize(
    ("table", "named", "allowed"),
    [
        ({"action": "explode"}, "'r'", "truncate"),
        ({}, "'r'", "truncate"),
        ({"action": "drop", "operation": "orders.fly"}, "'orders.fly'", "orders.search"),
        ({"action": "drop", "colour": "red"}, "'colour'", "probability"),
        ({"action": "drop", "page": -1}, "page", "whole number from 0"),
        ({"action": "drop", "after": 1.5}, "after", "whole number from 0"),
        ({"action": "drop", "times": 0}, "times", '"unlimited"'),
        ({"action": "drop", "times": "often"}, "'often'", '"unlimited"'),
        ({"action": "drop", "times": True}, "times", '"unlimited"'),
        ({"action": "drop", "probability": 0}, "probability", "above 0 and up to 1"),
        ({"action": "drop", "probability": 2}, "probability", "above 0 and up to 1"),
        ({"action": "status", "code": 99}, "code", "200 to 599"),
        ({"action": "status", "code": "503"}, "code", "200 to 599"),
        ({"action": "status", "retry_after": []}, "retry_after", "HTTP date"),
        ({"action": "status", "retry_after": "1\r\nx: y"}, "retry_after", "HTTP date"),
        ({"action": "garbage", "body": 5}, "body", "text"),
        ({"action": "delay", "seconds": -1}, "seconds", "a number from 0"),
    ],
)
def test_a_bad_rule_is_named_and_told_what_is_allowed(
    table: dict[str, Any], named: str, allowed: str
) -> None:
    """The error of a bad rule names the rule and the value, and says what is allowed."""
    with pytest.raises(FaultRuleError) as caught:
        parse_faults([{"name": "r"} | table])
    message = str(caught.value)
    assert message.startswith("fault rule 'r': ")
    assert named in message
    assert allowed in message


def test_a_nameless_rule_is_called_by_its_number() -> None:
    """A rule without a name is called by its place in the file."""
    with pytest.raises(FaultRuleError, match="'#2'"):
        parse_faults([{"action": "drop"}, {"action": "explode"}])


@pytest.mark.parametrize("document", [5, "drop", {"rule": {}}, {"fault": []}, [5]])
def test_a_document_laid_out_otherwise_is_refused(document: object) -> None:
    """Anything but a list of tables is refused with what is allowed."""
    with pytest.raises(FaultRuleError, match="allowed:"):
        parse_faults(document)


@pytest.mark.parametrize(("name", "kind"), [("faults.toml", "TOML"), ("faults.json", "JSON")])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    """A missing file and one with broken syntax are errors that name the file."""
    path = tmp_path / name
    with pytest.raises(FaultRuleError, match=rf"{name}: cannot be read: No such file"):
        load_faults(path)
    path.write_text("= [")
    with pytest.raises(FaultRuleError, match=rf"{name}: is not valid {kind}"):
        load_faults(path)


def test_every_action_is_accepted() -> None:
    """Each action makes a rule with nothing but its name."""
    assert [rule.action for rule in parse_faults([{"action": action} for action in ACTIONS])] == list(ACTIONS)
