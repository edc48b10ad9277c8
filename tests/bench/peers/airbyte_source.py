"""A declarative source with Airbyte's CDK: `python airbyte_source.py URL`, in an environment of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from airbyte_cdk.entrypoint import launch
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource

from tests.bench.peers.output import into_file, lines_with
from tests.bench.rivals import PAGE_SIZE, Result, Stopwatch

CATALOG = {
    "streams": [
        {
            "stream": {"name": "orders", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
            "sync_mode": "full_refresh",
            "destination_sync_mode": "append",
        }
    ]
}


def manifest(url: str) -> dict[str, Any]:
    """A source of one list, read page by page."""
    requester = {
        "type": "HttpRequester",
        "url_base": url,
        "path": "/order/v1/orders",
        "http_method": "GET",
        "authenticator": {"type": "BearerAuthenticator", "api_token": "bench"},
    }

    def parameter(name: str) -> dict[str, str]:
        return {"type": "RequestOption", "inject_into": "request_parameter", "field_name": name}

    paginator = {
        "type": "DefaultPaginator",
        "page_token_option": parameter("page"),
        "page_size_option": parameter("pageSize"),
        "pagination_strategy": {
            "type": "PageIncrement",
            "start_from_page": 1,
            "page_size": PAGE_SIZE,
            "inject_on_first_request": True,
        },
    }
    stream = {
        "type": "DeclarativeStream",
        "name": "orders",
        "primary_key": ["id"],
        "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {}}},
        "retriever": {
            "type": "SimpleRetriever",
            "requester": requester,
            "record_selector": {
                "type": "RecordSelector",
                "extractor": {"type": "DpathExtractor", "field_path": ["orders"]},
            },
            "paginator": paginator,
        },
    }
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["orders"]},
        "streams": [stream],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def run(url: str, folder: Path) -> Result:
    """Read all orders."""
    files = {"catalog": folder / "catalog.json", "config": folder / "config.json"}
    files["catalog"].write_text(json.dumps(CATALOG))
    files["config"].write_text("{}")
    watch = Stopwatch()
    source = ConcurrentDeclarativeSource(catalog=None, config={}, state=None, source_config=manifest(url))
    with into_file() as file:
        launch(source, ["read", *(part for name, path in files.items() for part in (f"--{name}", str(path)))])
    result = watch.result()
    records = lines_with(file, b'"RECORD"')
    return Result(records, records, result.seconds, result.cpu_seconds)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as directory:
        print(run(sys.argv[1], Path(directory)).as_json())
