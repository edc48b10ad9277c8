"""What the page never does: obey words of others, trust other sites, or change anything."""

from __future__ import annotations

import json
import re
from math import prod

import httpx
import pytest
import redis

from tests.support.hostile import TEXTS, problems
from tests.support.hostile_state import FACTORS, HOSTILE, MARKUP, fill
from tests.support.page import Reader
from tests.support.paths import ROOT
from tests.support.streams import KEYS, fields_of
from worker.keys import KeySpace

pytestmark = pytest.mark.anyio


def assert_harmless(page: str) -> None:
    """Nothing of others is markup, moves text or hides it; nothing runs that is not our own file."""
    read = Reader(page)
    assert list(problems(page)) == []
    assert [tag for tag, _ in read.tags if tag in {"img", "iframe", "object", "embed", "style", "base"}] == []
    scripts = [attributes for tag, attributes in read.tags if tag == "script"]
    assert [script.get("src") for script in scripts] == ["/static/page.js"]
    for _, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert (attributes.get("href") or "/").startswith(("/", "#"))


@pytest.mark.parametrize("hostile", [HOSTILE, MARKUP], ids=["words", "markup"])
async def test_hostile_words(http: httpx.AsyncClient, redis_url: str, hostile: str) -> None:
    """Ids, groups, reasons, errors, workers and commands of others are text, in the page, its updates and a search."""
    fill(redis_url, hostile)
    page = (await http.get("/")).text
    assert_harmless(page)
    if hostile == MARKUP:
        assert MARKUP in Reader(page).words
        assert str(prod(FACTORS)) not in Reader(page).words  # a template that was obeyed
    async with http.stream("GET", "/updates") as updates:
        async for line in updates.aiter_lines():
            if line.startswith("data: ") and "<section" in line:
                html = json.loads(line[6:])
                assert list(problems(html)) == []
                assert not [tag for tag, _ in Reader(html).tags if tag in {"script", "img"}]
                if 'id="history"' in html:
                    break
    for name in (hostile, *TEXTS):
        found = await http.get("/timeline", params={"id": name.encode("utf-8", "ignore").decode()})
        assert found.status_code in {200, 404, 400}
        assert_harmless(found.text)


async def test_no_template_trusts_text() -> None:
    """No template switches the escaping off, and none has a script or a style of its own."""
    for file in (ROOT / "worker" / "web" / "templates").iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup|<style|style=|<script>|\son\w+=", text), file.name


async def test_the_policy_of_every_answer(http: httpx.AsyncClient) -> None:
    """Nothing but own files, in no frame, for no other site, never kept."""
    for path in ("/", "/timeline", "/status.json", "/static/page.css", "/static/page.js", "/static/icon.svg"):
        headers = (await http.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers


async def test_it_changes_nothing(http: httpx.AsyncClient, redis_url: str) -> None:
    """No method but GET and HEAD; and after every route Redis has the keys and values that it had."""
    fill(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        for path in ("/", "/status.json", "/timeline?id=a"):
            assert (await http.get(path)).status_code in {200, 404}
            assert (await http.head(path)).content == b""
            for method in ("POST", "PUT", "DELETE"):
                assert (await http.request(method, path)).status_code == 405
        assert {key: client.dump(key) for key in client.scan_iter()} == before


async def test_a_foreign_site_starts_no_search(http: httpx.AsyncClient, redis_url: str) -> None:
    """A link or a hidden picture of another site is answered without a search, under its own name not at all."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(KeySpace().accounts, "default")
        client.xadd(KEYS.stream("orders"), fields_of(1))
    own = await http.get("/timeline", params={"id": "a"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert "v1 created" in own.text
    foreign = await http.get("/timeline", params={"id": "a"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 404
    assert "v1 created" not in foreign.text
    assert (await http.get("/", headers={"Host": "evil.example"})).status_code == 421
