"""`python -m tests.recorded PAGE`: play the scene, and write the page anew."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.recorded.page import render
from tests.recorded.scene import record

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        page = render(record(Path(folder)))
    Path(sys.argv[1]).write_text(page, encoding="utf-8")
