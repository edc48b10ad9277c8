"""Writes down in the operator log what a command changes."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click
import redis.exceptions

from ordersync_consumer.redaction import words_of
from worker.admin.operator_log import DONE, OperatorLog
from worker.cli.common.output import complain
from worker.redis.refusals import explain
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.keys import Keys


@asynccontextmanager
async def recorded(client: Redis, keys: Keys, *, by: str = "") -> AsyncIterator[None]:
    """Write this command down when the block has changed something, or has failed to.

    If that cannot be written, the command says so on stderr, and why: what it has changed stays changed. Where Redis
    has refused the command itself, its own error says why.
    """
    outcome, refused = DONE, False
    try:
        yield
    except click.Abort:
        outcome = "not confirmed"
        raise
    except Exception as error:
        outcome, refused = words_of(error), isinstance(error, (redis.exceptions.RedisError, OSError))
        raise
    finally:
        try:
            await OperatorLog(client, keys).add(sys.argv[1:], outcome, by=by)
        except (redis.exceptions.RedisError, OSError) as error:
            if not refused:
                get_logger(account=keys.account).warning("operator_log_not_written", error=words_of(error))
                complain(
                    "ordersync: this command could not be written into the operator log, and is missing in `ordersync "
                    f"history`: {explain(error)}"
                )
