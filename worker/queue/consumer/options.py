"""The settings of one consumer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.backoff import Backoff
from worker.errors import SettingsError
from worker.queue.streams.groups import OURS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.queue.consumer.delivery import Trimmed


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """What a consumer is told; `Consumer` says what each means. Seconds everywhere.

    Raises:
        SettingsError: One that cannot work, before anything is connected.

    """

    group: str
    name: str
    resources: tuple[str, ...]
    account: str = "default"
    begin: str = "0"
    batch: int = 100
    prefetch: int = 200
    claim_after: float = 30.0
    max_deliveries: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    block: float = 1.0
    wait: bool = True
    on_trimmed: Callable[[Trimmed], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        for what, text in (("group", self.group), ("name", self.name), ("account", self.account)):
            if not text or not text.isprintable() or " " in text:
                raise SettingsError(f"the {what} of a consumer is one word, not {text!r}")
        if self.name.startswith(OURS):
            raise SettingsError(
                f"names of consumers that start with {OURS} stand for nobody; choose another one"
            )
        if not self.resources:
            raise SettingsError('a consumer needs at least one resource, such as resources=["orders"]')
        if self.begin not in ("0", "$"):
            raise SettingsError(
                f'begin is "0" (the oldest event kept) or "$" (the next new one), not {self.begin!r}'
            )
        for what in ("batch", "prefetch", "claim_after", "max_deliveries", "block"):
            number = getattr(self, what)
            if number <= 0:
                raise SettingsError(f"{what} of a consumer must be more than 0, not {number}")
