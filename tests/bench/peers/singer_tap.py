"""A Singer tap with the Meltano SDK: `python singer_tap.py URL`, in an environment of its own."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.request import urlopen

from singer_sdk import RESTStream, Tap
from singer_sdk.pagination import BasePageNumberPaginator

from tests.bench.peers.output import into_file, lines_with
from tests.bench.rivals import PAGE_SIZE, Result, Stopwatch

if TYPE_CHECKING:
    import requests

KINDS = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}


def schema_at(url: str) -> dict[str, Any]:
    """The schema of the fields of an order: a tap drops what its schema does not have."""
    with urlopen(f"{url}/order/v1/orders?page=1&pageSize=1") as response:  # noqa: S310 - a source on loopback
        (order,) = json.load(response)["orders"]
    properties = {name: {"type": [KINDS.get(type(value), "string"), "null"]} for name, value in order.items()}
    return {"type": "object", "properties": properties}


class Pages(BasePageNumberPaginator):
    """Ends with the first page that is not full."""

    def has_more(self, response: requests.Response) -> bool:
        """Look whether there are as many records as were asked for."""
        return len(response.json()["orders"]) == PAGE_SIZE


class Orders(RESTStream[int]):
    """The list of orders."""

    name = "orders"
    path = "/order/v1/orders"
    records_jsonpath = "$.orders[*]"
    primary_keys = ("id",)
    schema: ClassVar[dict[str, Any]] = {}

    @property
    def url_base(self) -> str:
        """The address of the source."""
        return str(self.config["url"])

    @property
    def http_headers(self) -> dict[str, str]:
        """A token, which the source does not look at."""
        return {"Authorization": "Bearer bench"}

    def get_new_paginator(self) -> Pages:
        """Count from one."""
        return Pages(1)

    def get_url_params(self, context: Any, next_page_token: int | None) -> dict[str, Any]:  # noqa: ARG002
        """Ask for a page."""
        return {"page": next_page_token, "pageSize": PAGE_SIZE}


class Bench(Tap):
    """A tap with that list alone."""

    name = "tap-bench"
    config_jsonschema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"url": {"type": "string"}},
    }

    def discover_streams(self) -> list[Orders]:
        """Return the list."""
        return [Orders(self)]


def run(url: str) -> Result:
    """Read all orders."""
    Orders.schema = schema_at(url)
    watch = Stopwatch()
    with into_file() as file:
        Bench(config={"url": url}).sync_all()
    result = watch.result()
    records = lines_with(file, b'"RECORD"')
    return Result(records, records, result.seconds, result.cpu_seconds)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    print(run(sys.argv[1]).as_json())
