"""URLs as they may be shown."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus


def hide_password(url: str) -> str:
    """Return a URL with its password, including one in the query of a Redis URL, replaced by asterisks."""
    url = re.sub(r"(?<=[?&])([^=&#]*)=([^&#]*)", _without_value, url)
    # A password may hold any character, so all up to the last @ is hidden.
    return re.sub(r"^([\w+.-]+://[^/@:?#]*):.*@", r"\1:***@", url, flags=re.DOTALL)


def _without_value(found: re.Match[str]) -> str:
    secret = re.search(r"(?i)pass|pwd|secret|token|key|auth|cred", unquote_plus(found[1]))
    return f"{found[1]}=***" if secret else found[0]
