"""Finds secrets in a text, however many there are: a worker of thousands of accounts knows as many logins."""

from __future__ import annotations

from collections import Counter

START = 6
"""Characters of the shortest secret. Secrets are looked up by so many of their first ones."""
FEW = 100
"""Up to so many secrets, to look for one after another is the fastest."""


class KnownSecrets:
    """A multiset of secrets, none of which is shorter than `START`."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._by_start: dict[str, list[str]] = {}
        self._lengths = Counter[int]()

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def longest(self) -> int:
        """Characters of the longest secret; 0 if there is none."""
        return max(self._lengths, default=0)

    def add(self, secret: str) -> None:
        """Add a secret."""
        self._counts[secret] += 1
        if self._counts[secret] == 1:
            self._lengths[len(secret)] += 1
            self._by_start.setdefault(secret[:START], []).append(secret)

    def remove(self, secret: str) -> None:
        """Take one `add` of a secret back. It is hidden until each was taken back."""
        self._counts[secret] -= 1
        if self._counts[secret] > 0:
            return
        del self._counts[secret]
        self._lengths[len(secret)] -= 1
        if not self._lengths[len(secret)]:
            del self._lengths[len(secret)]
        alike = self._by_start[secret[:START]]
        alike.remove(secret)
        if not alike:
            del self._by_start[secret[:START]]

    def clear(self) -> None:
        """Remove all secrets."""
        self._counts.clear()
        self._by_start.clear()
        self._lengths.clear()

    def hide(self, text: str, hidden: str) -> str:
        """Return `text` with every secret in it replaced. Where secrets overlap, all of their characters are."""
        spans = self._spans_of_few(text) if len(self._counts) <= FEW else self._spans_of_many(text)
        merged = list[tuple[int, int]]()
        for start, stop in sorted(spans):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        parts, shown = list[str](), 0
        for start, stop in merged:
            parts += (text[shown:start], hidden)
            shown = stop
        return "".join((*parts, text[shown:]))

    def _spans_of_few(self, text: str) -> list[tuple[int, int]]:
        spans = []
        for secret in self._counts:
            at = text.find(secret)
            while at >= 0:
                spans.append((at, at + len(secret)))
                at = text.find(secret, at + 1)
        return spans

    def _spans_of_many(self, text: str) -> list[tuple[int, int]]:
        starts = self._by_start
        return [
            (at, at + len(secret))
            for at in range(len(text) - START + 1)
            for secret in starts.get(text[at : at + START], ())
            if text.startswith(secret, at)
        ]
