"""Certificates for tests, and a server of TLS in front of one that has none."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """The files of a self-signed certificate, which is its own authority, and of its key."""

    file: Path
    key: Path

    def server(self, *, clients: Certificate | None = None) -> ssl.SSLContext:
        """What a server with this certificate needs; with `clients` it wants theirs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.file, self.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.file)
        return context


def certificate(folder: Path, name: str) -> Certificate:
    """Make a certificate for a name such as `IP:127.0.0.1` or `DNS:other.example`."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command")
    stem = name.partition(":")[2].replace(".", "-")
    made = Certificate(folder / f"{stem}.pem", folder / f"{stem}.key")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={name}"),
            *("-out", str(made.file), "-keyout", str(made.key)),
        ],
        check=True,
        capture_output=True,
    )
    return made
