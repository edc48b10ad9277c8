"""Settings of what the worker connects to: OrderMesh, Redis, and the embedded server."""

from __future__ import annotations

from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from pydantic import Field, SecretStr, model_validator

from worker.config.sections.section import Section
from worker.config.values import (
    File,
    Headers,
    HttpAddress,
    OptionalHttpAddress,
    Prefix,
    ProxyAddress,
    QueueAddress,
    RedisAddress,
    is_loopback,
)
from worker.keys import PREFIX, KeySpace


class ApiSettings(Section):
    """How to reach OrderMesh, and how many requests to send."""

    base_url: HttpAddress = Field("https://api.ordermesh.io", description="address of the gateway")
    allow_http: bool = Field(
        default=False,
        description="whether a base_url with http:// may name a host other than this machine; everybody on the way "
        "then reads login and records",
    )
    moved_from: OptionalHttpAddress = Field(
        None,
        description="earlier address of the same OrderMesh, after a move: its events and state are continued",
    )
    client_id: str | None = Field(None, description="production login: id of the service client")
    client_secret: SecretStr | None = Field(None, description="production login: its secret")
    username: str | None = Field(None, description="development login: user")
    password: SecretStr | None = Field(None, description="development login: password")
    requests_per_second: float = Field(
        10, gt=0, le=1_000_000, description="request budget of all workers together"
    )
    max_concurrency: int = Field(4, ge=1, le=64, description="concurrent requests of all workers together")
    page_size: int = Field(100, ge=1, le=1000, description="records requested per page")
    timeout: float = Field(30, gt=0, le=600, description="seconds without a byte until a request fails")
    attempts: int = Field(5, ge=1, le=20, description="attempts for one request before the poll fails")
    max_response_bytes: int = Field(
        16_777_216,
        ge=65_536,
        le=1_073_741_824,
        description="most bytes of a response, compressed or not; a longer one is not read",
    )
    max_page_records: int = Field(
        10_000,
        ge=1_000,
        le=1_000_000,
        description="most records of a page, however many were requested; a page with more is not read",
    )
    max_scan_pages: int = Field(
        100_000,
        ge=10,
        le=100_000_000,
        description="most pages of a full scan; a list with more of them has no end, and the scan fails",
    )
    max_record_bytes: int = Field(
        1_048_576,
        ge=1_024,
        le=268_435_456,
        description="most bytes of one record; a longer one is stored as a dead letter without its content",
    )

    headers: Headers = Field(
        default={}, description="headers of every request, such as the subscription key of an API management"
    )
    ca_file: File = Field(
        None, description="certificates (PEM) of authorities that are trusted beside those of the system"
    )
    proxy: ProxyAddress = Field(
        None,
        description="HTTP proxy to the gateway, with its login, such as http://user:password@proxy:3128; if not set, "
        "HTTPS_PROXY, HTTP_PROXY and NO_PROXY apply",
    )
    client_cert_file: File = Field(
        None, description="certificate (PEM) that the worker shows to the gateway, with its chain"
    )
    client_key_file: File = Field(
        None, description="key (PEM, not encrypted) of that certificate; if not set, it is in the same file"
    )

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        parts = urlsplit(self.base_url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.allow_http:
            raise ValueError(
                f"base_url {self.base_url} is not encrypted: everybody on the way reads the login. Use https://. If "
                "you must use http:// with this host, set ORDERSYNC_API__ALLOW_HTTP to true (allow_http in an "
                "accounts file)"
            )
        return self

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs client_cert_file")
        return self

    @property
    def has_login(self) -> bool:
        """True if one of the two logins is complete."""
        return bool((self.client_id and self.client_secret) or (self.username and self.password))


def _is_encrypted(address: str) -> bool:
    """True for the address of a Redis whose connections are encrypted."""
    return address.startswith(("rediss:", "rediss+"))


class Replicas(msgspec.Struct, frozen=True):
    """How many replicas have to have a commit, and for how many seconds the worker waits for them."""

    count: int = 0
    seconds: float = 1.0


NO_REPLICAS = Replicas()


class RedisSettings(Section):
    """Where events and state are stored, and where arq has its queue."""

    url: RedisAddress = Field(
        None,
        description="server, sentinels or cluster for events and state; if not set, an embedded Valkey is started",
    )
    queue_url: QueueAddress = Field(
        None,
        description="server for the queue of arq; if not set, the same server. A cluster for events and state needs "
        "another server for the queue",
    )
    ca_file: File = Field(
        None, description="certificates (PEM) of authorities that are trusted beside those of the system"
    )
    client_cert_file: File = Field(
        None, description="certificate (PEM) that the worker shows to both servers, with its chain"
    )
    client_key_file: File = Field(
        None, description="key (PEM, not encrypted) of that certificate; if not set, it is in the same file"
    )

    wait_replicas: int = Field(
        0,
        ge=0,
        le=10,
        description="number of replicas that must have a commit, or an erasure, before it counts (WAIT); 0 does not "
        "wait for them",
    )
    wait_timeout: float = Field(
        1.0,
        ge=0.05,
        le=5,
        description="seconds to wait for these replicas before the poll, which is repeated, or the erasure fails",
    )
    prefix: Prefix = Field(
        PREFIX, description="begin of the name of every key; the keys of arq's jobs begin with arq:"
    )

    @property
    def replicas(self) -> Replicas:
        """How many replicas must have a commit, and for how long it waits for them."""
        return Replicas(self.wait_replicas, self.wait_timeout)

    @property
    def keys(self) -> KeySpace:
        """The keys that begin with the prefix."""
        return KeySpace(self.prefix)

    @property
    def address(self) -> str | None:
        """The address of the server for events and state, with the files for TLS; None for the embedded one."""
        return self._with_files(self.url)

    @property
    def queue_address(self) -> str | None:
        """The address of the server of the queue, with the files for TLS; None if it is the same server."""
        return self._with_files(self.queue_url)

    def _with_files(self, url: SecretStr | None) -> str | None:
        if url is None:
            return None
        address = url.get_secret_value()
        if not _is_encrypted(address):
            return address
        files = {
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.client_cert_file,
            "ssl_keyfile": self.client_key_file or self.client_cert_file,
        }
        given = parse_qs(urlsplit(address).query)
        options = urlencode({name: str(file) for name, file in files.items() if file and name not in given})
        joint = "&" if given else "?"
        return f"{address.rstrip('?')}{joint}{options}" if options else address

    @model_validator(mode="after")
    def _use_tls(self) -> Self:
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs client_cert_file")
        plain = [
            url for url in (self.url, self.queue_url) if url and not _is_encrypted(url.get_secret_value())
        ]
        files = [name for name in ("ca_file", "client_cert_file") if getattr(self, name)]
        if files and (plain or self.url is None):
            raise ValueError(f"{files[0]} needs addresses that begin with rediss:// (or rediss+sentinel://)")
        return self


class EmbeddedSettings(Section):
    """The Valkey that is started if no server is set."""

    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="port of 127.0.0.1 on which other programs reach the embedded Valkey, with a password; if not set, "
        "it is reached over its Unix socket only",
    )
    max_memory_bytes: int = Field(
        1_073_741_824,
        ge=16_777_216,
        description="most bytes of memory that the embedded Valkey uses; when they are used, it refuses writes until "
        "events are removed, and the worker waits",
    )
