"""The address of a receiver: which are permitted, and how one is shown. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from worker.errors import SettingsError


def check_address(address: str, *, allow_http: bool) -> None:
    """See that events may be sent to an address: https, or http on this machine, unless `allow_http`.

    Raises:
        SettingsError: They may not, or `allow_http` has no effect.

    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:  # also an invalid port, and a host that is no name
        host, port, parts = "", 0, urlsplit("")
    if not host or port == 0 or parts.scheme not in {"http", "https"} or not _is_plain(address):
        raise SettingsError("--to: write an address like https://shop.example/events")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            "--to: an address must not contain a user or password, which other users of this machine see. Set "
            "ORDERSYNC_FORWARD__SECRET, and check the signature at the receiver."
        )
    if parts.fragment:
        raise SettingsError("--to: remove the fragment (#...); it is not sent to a server")
    is_open = parts.scheme == "http" and not _is_loopback(host)
    if allow_http and not is_open:
        raise SettingsError(
            "--allow-http has no effect, because --to is an address with https:// or of this machine. Leave it out."
        )
    if is_open and not allow_http:
        raise SettingsError(
            f"--to: everybody on the way to {host} could read the events. Write https://, or --allow-http if you know "
            "the network."
        )


def shown(address: str) -> str:
    """Return an address for the log: without its query, which may contain a token."""
    parts = urlsplit(address)
    return parts._replace(query="...").geturl() if parts.query else address


def _is_plain(address: str) -> bool:
    return address.isascii() and address.isprintable() and " " not in address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
