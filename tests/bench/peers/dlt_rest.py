"""dlt's `rest_api` source, which loads into files: `python dlt_rest.py URL`, in an environment of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

# Before the import: dlt reads its settings there.
os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}

import dlt
from dlt.sources.rest_api import rest_api_source

from tests.bench.rivals import PAGE_SIZE, Result, Stopwatch


def run(url: str, folder: str) -> Result:
    """Read all orders into files of `folder`. Records stay whole: a table for each nested list would cost more."""
    watch = Stopwatch()
    configuration: Any = {
        "client": {
            "base_url": url,
            "auth": {"type": "bearer", "token": "bench"},
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "page_param": "page",
                "total_path": None,
                "stop_after_empty_page": True,
            },
        },
        "resources": [
            {
                "name": "orders",
                "max_table_nesting": 0,
                "endpoint": {
                    "path": "order/v1/orders",
                    "params": {"pageSize": PAGE_SIZE},
                    "data_selector": "orders",
                },
            }
        ],
    }
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=f"{folder}/pipelines",
        destination=dlt.destinations.filesystem(f"file://{folder}/files"),
        dataset_name="bench",
    )
    pipeline.run(rest_api_source(configuration), loader_file_format="jsonl")
    rows = pipeline.last_trace.last_normalize_info.row_counts["orders"]
    return watch.count(rows, rows).result()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ordersync-bench-") as folder:
        print(run(sys.argv[1], folder).as_json())
