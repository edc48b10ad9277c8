"""Redaction: no line of a log, and no words of others that are kept, may contain a secret or personal data.

The words of a server, a library or another program pass through `words` or `words_of` before they are kept
in Redis, shown by a command or cut.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Mapping, MutableMapping
from functools import cache, lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from ordersync_consumer.known_secrets import START, KnownSecrets

HIDDEN = "[hidden]"
MAX_WORDS = 500
"""Characters of the words of others that are kept."""
_LONG = 16_384
_LONGEST_END = 1_000
"""Characters at the end of one long word that may be the beginning of a secret that is not known."""
_SHORTEST = START
_PASSING = 1_000
"""Short-lived secrets that are kept: the tokens of so many accounts."""
_URL_SAFE = str.maketrans("+/", "-_")

# Keys whose values are never written: credentials and tokens, and the fields of an order with personal data.
_CREDENTIAL = r"secret|password|passwd|token|authorization|cookie|api_?key|credential"
_PERSON = r"address|e_?mail|phone|street|recipient|(first|last|full|user|customer|company)_?name"
_WHOLE_KEY = r"line[123]|zip(_?code)?|post(al)?_?code|city|data|record|body|card_?(first|last)\d"
_VALUE = r"""("(\\.|[^"\\])*"|'(\\.|[^'\\])*'|\d+)"""
# Every repetition that must be followed by another character is bounded: a long word must not take quadratic time,
# which would block the event loop.
_MAIL = re.compile(r"[\w.%+'-]{1,64}(@|%40)[\w-]+(\.[\w-]+)+")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]{0,100}):(?!\*\*\*@)[^/\s@]+@")


# The patterns are compiled when the first text is cleaned: that takes longer than all else in this module, and most
# commands clean none.
@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Return the patterns of what is removed from every text."""
    return (
        # A field of a record, quoted in a message as JSON or as a Python literal.
        re.compile(
            rf"""(?i)(["'])(\w{{0,40}}({_CREDENTIAL}|{_PERSON})\w{{0,40}}|{_WHOLE_KEY})\1\s*:\s*{_VALUE}"""
        ),
        re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)[A-Za-z0-9._~+/=%-]{6,}"),
        re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,2}"),
        re.compile(
            r"(?i)(?<=[?&\s\"'])(access_?token|refresh_?token|id_?token|client_?secret|api_?key|(sentinel_)?password|passwd)"
            r"[\\\"']{0,2}\s*[=:]\s*[\\\"']{0,2}[^&\s\"'\\,}]+"
        ),
        re.compile(r"(?i)(?<=[?&])(token|bearer|secret|key|sig|signature|auth|code)=[^&\s\"']+"),
        re.compile(
            r"(?i)\b(tele)?(phone|mobile|fax)(_?number)?[\\\"']{0,2}\s*[=:]\s*[\\\"']{0,2}\+?\d[\d ()./-]{5,20}"
        ),
        re.compile(r"\+\d[\d ()./-]{7,18}\d"),  # a phone number as it is dialled from another country
    )


@cache
def _keys() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of the keys of credentials, and of personal data."""
    return re.compile(_CREDENTIAL, re.IGNORECASE), re.compile(rf"{_PERSON}|^({_WHOLE_KEY})$", re.IGNORECASE)


class Redaction:
    """Structlog processor that hides secrets: known values, values of sensitive keys, and text that looks like one."""

    def __init__(self) -> None:
        self._given = set[str]()
        self._passing = deque[str]()
        self._known = KnownSecrets()

    def add_passing(self, *secrets: str | None) -> None:
        """Hide short-lived secrets, such as tokens. Only the last of them are kept."""
        for secret in secrets:
            if secret and secret not in self._passing:
                self._passing.append(secret)
                self._learn(secret)
        while len(self._passing) > _PASSING:
            for form in _forms(self._passing.popleft()):
                self._known.remove(form)

    def add(self, *secrets: str | None) -> None:
        """Hide these values wherever they occur. Values of fewer than 6 characters are skipped: they may be words."""
        for secret in secrets:
            if secret and len(secret) >= _SHORTEST and secret not in self._given:
                self._given.add(secret)
                self._learn(secret)

    def _learn(self, secret: str) -> None:
        for form in _forms(secret):
            self._known.add(form)

    def forget_all(self) -> None:
        """Forget all secrets, between tests."""
        self._given.clear()
        self._passing.clear()
        self._known.clear()

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return the event without secrets and personal data."""
        return {key: self._clean(key, value) for key, value in event.items()}

    @property
    def longest(self) -> int:
        """Characters of the longest secret that was added, in its longest form."""
        return self._known.longest

    def known(self, text: str) -> str:
        """Return `text` without the secrets that were added."""
        return self._known.hide(text, HIDDEN)

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", self.known(text))
        for pattern in _patterns():
            text = pattern.sub(HIDDEN, text)
        if "@" in text or "%40" in text:  # most texts have none, and looking for one takes long
            text = _MAIL.sub(HIDDEN, text)
        return text

    def _clean(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        is_number = isinstance(value, int | float)  # a number of tokens is not a token
        credential, personal = _keys()
        if personal.search(key) or (credential.search(key) and not is_number):
            return HIDDEN
        if isinstance(value, Mapping):
            return {str(k): self._clean(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean("", item) for item in value]
        return value if is_number else self.text(str(value))


redaction = Redaction()
"""The redaction of the process. Code that reads or receives a secret adds it."""


def words(text: str, limit: int = MAX_WORDS) -> str:
    """Return what others wrote as one line that may be kept: without secrets and personal data, then cut."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:_LONG]).split())
    if len(text) > _LONG:  # the cut may have left the beginning of a secret at the end
        line = line.rpartition(" ")[0] or line[: -max(redaction.longest, _LONGEST_END)]
    return redaction.text(line)[:limit]


def words_of(error: BaseException, limit: int = MAX_WORDS) -> str:
    """Return the words of an error as they may be kept; the name of its class if it has none."""
    return words(str(error), limit) or type(error).__name__


@lru_cache(maxsize=1_000)
def _forms(secret: str) -> frozenset[str]:
    """Return a secret as it is, and as it is written in URLs, JSON, and base64, also after other text."""
    given = secret.encode("utf-8", "surrogatepass")
    quoted = {quote(given, safe=""), quote_plus(given), unquote(secret)}
    forms = {secret, *quoted, *(re.sub("%..", lambda found: found[0].lower(), item) for item in quoted)}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms |= {json.dumps(secret)[1:-1].replace("/", "\\/"), quote(quote(given, safe=""), safe="")}
    for before in range(3):
        # Three bytes become four characters; those that a neighbour shares are left out.
        encoded = base64.b64encode(b"\0" * before + given).decode().rstrip("=")
        core = encoded[(0, 2, 3)[before] : len(encoded) - ((before + len(given)) % 3 != 0)]
        forms |= {core, core.translate(_URL_SAFE)}
    return frozenset(form for form in forms if len(form) >= _SHORTEST)
