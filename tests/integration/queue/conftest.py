"""Fixtures for tests of streams: those of the consumer kit."""

from tests.integration.consumer.conftest import client, server, stage, stage_server, writer

__all__ = ["client", "server", "stage", "stage_server", "writer"]
