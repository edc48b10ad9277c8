"""What a first start asks of the gateway: each list is probed once, however many sources need to know of it."""

from __future__ import annotations

from collections import Counter

import pytest
import structlog

from tests.support.arq_worker import working
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.capture.registry import CAPTURED, RESOURCES
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

MOST_REQUESTS = 220
"""Of a start in which nothing is asked twice: 184 for the probes of eight lists, and 16 for all else."""


async def test_a_first_start_with_all_resources_probes_each_list_once(
    bench: BenchMaker, redis_url: str
) -> None:
    """A list and its audit logs, which are due together, wait for one probe; every list is read after it."""
    with SandboxServer(orders=5) as sandbox:
        async with bench(
            sandbox, probe=True, intervals=dict.fromkeys(CAPTURED, 600.0), requests_per_second=1000
        ) as b:
            cursors = [b.account.keys.cursor(name) for name in CAPTURED]

            async def all_read() -> bool:
                return all([await b.redis.hget(cursor, "last_success") for cursor in cursors])

            with structlog.testing.capture_logs() as lines:
                async with working(b, redis_url):
                    await eventually(all_read, 300)
            probed = Counter(line["resource"] for line in lines if line["event"] == "contract_probed")
            assert probed == dict.fromkeys(RESOURCES, 1)
        answers = sandbox.requests.counts().values()
        assert sum(sum(of.values()) for of in answers) <= MOST_REQUESTS
