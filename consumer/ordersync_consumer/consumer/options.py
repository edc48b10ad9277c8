"""The settings of one consumer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ordersync_consumer.backoff import Backoff
from ordersync_consumer.errors import SettingsError
from ordersync_consumer.groups import RESERVED_PREFIX
from ordersync_consumer.resources import check_resource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ordersync_consumer.consumer.delivery import Trimmed


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """The options of a consumer, as `Consumer` describes them. Times are in seconds.

    Raises:
        SettingsError: An option is invalid.

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
        for option, text in (("group", self.group), ("name", self.name), ("account", self.account)):
            if not text or not text.isprintable() or " " in text:
                raise SettingsError(
                    f"Invalid {option} of a consumer: {text!r}. It must be one word without spaces."
                )
        if self.name.startswith(RESERVED_PREFIX):
            raise SettingsError(
                f"Invalid name of a consumer: {self.name!r}. The prefix {RESERVED_PREFIX} is reserved."
            )
        if not self.resources:
            raise SettingsError('A consumer needs at least one resource, such as resources=["orders"].')
        for resource in self.resources:
            check_resource(resource)
        if self.begin not in ("0", "$"):
            raise SettingsError(
                f"Invalid begin of a consumer: {self.begin!r}. "
                'Use "0" (the oldest event that is kept) or "$" (the next new one).'
            )
        for option in ("batch", "prefetch", "claim_after", "max_deliveries", "block"):
            number = getattr(self, option)
            if number <= 0:
                raise SettingsError(f"Invalid {option} of a consumer: {number}. It must be greater than 0.")
