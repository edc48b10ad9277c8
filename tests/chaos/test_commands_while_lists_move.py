"""`run --once` and `resync --all --force` while the list moves: orders come, change and go, the oldest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.commands import ordersync
from tests.support.gateway import Gateway, Judge, Serving
from tests.support.programs import Program

pytestmark = pytest.mark.anyio


PAGES = 40
"""How many pages the list moves; a list that never stands still is never called complete."""


def moving(gateway: Gateway) -> Callable[[str, int], None]:
    """What happens before each page: orders come and change, and with each third page the oldest goes."""
    chance, history, left = Random(3), gateway.history, iter(range(PAGES))

    def move(_kind: str, _page: int) -> None:
        number = next(left, None)
        if number is None:
            return
        ids = history.ids("orders")
        history.create("orders")
        history.change("orders", [chance.choice(ids[1:])])
        if number % 3 == 0:
            history.delete("orders", ids[:1])

    return move


@pytest.mark.parametrize("order", ["created", "-created", "modified", "-modified"])
@pytest.mark.parametrize("total", ["totalCount", None])
async def test_run_once(redis_url: str, tmp_path: Path, order: str, total: str | None) -> None:
    """What was so when the command began, or became so later, is published when it ends with 0."""
    serving = Serving(total=total)
    serving.order = order  # type: ignore[assignment]
    with Gateway(orders=600, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(redis_url, tmp_path, api__page_size="50")
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert done.returncode == 0, done.stderr
        judge.settled = time.time()
        history = gateway.history
        history.change("orders", history.ids("orders")[::30])
        history.create("orders", 5)
        began = time.time()
        serving.before_page = moving(gateway)
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        serving.before_page = None
        assert done.returncode == 0, done.stdout + done.stderr
        assert judge.behind("orders", began) == []
        verdict = judge.verdict()
        verdict.missed.clear()  # what happened while it read
        assert verdict.counts == {}


@pytest.mark.parametrize("order", ["created", "-modified"])
async def test_resync_of_everything(redis_url: str, tmp_path: Path, order: str) -> None:
    """Each order that was there all the time is published again."""
    serving = Serving()
    serving.order = order  # type: ignore[assignment]
    with Gateway(orders=600, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        settings = gateway.settings(
            redis_url, tmp_path, api__page_size="50", poll__intervals='{"orders": 3600}'
        )
        with Program(tmp_path, **settings):
            await judge.recovered()
            serving.before_page = moving(gateway)
            done = ordersync("resync", "orders", "--all", "--force", "--wait", cwd=tmp_path, **settings)
            serving.before_page = None
            assert done.returncode == 0, done.stdout + done.stderr
            judge.take()
            again = {told.subject for told in judge.told["orders"] if told.reason == "resync"}
            existing = set(gateway.history.ids("orders")) & {
                told.subject for told in judge.told["orders"][:600]
            }
            assert existing - again == set()
