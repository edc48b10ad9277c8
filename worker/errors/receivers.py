"""Errors of what takes events: the command of `ordersync consume`, the receiver of `ordersync forward`."""

from __future__ import annotations

from ordersync_consumer.errors import OrdersyncError


class CommandFails(OrdersyncError):
    """With `--once`: the command of `consume` fails for every event."""

    code = "command_fails"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} fails for every event. The events stay in the group. Read what it says, correct the cause, and "
            "run the command again."
        )


class ReceiverGone(OrdersyncError):
    """The receiver has answered 410: it was removed."""

    code = "receiver_gone"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} answers 410 Gone: the receiver was removed. Its events stay in the group. Pass another "
            "address with --to, or drop the group: ordersync groups drop."
        )


class ReceiverUnavailable(OrdersyncError):
    """With `--once`: the receiver takes no events at the moment."""

    code = "receiver_unavailable"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address} takes no events: {reason}. The events stay in the group. Run the command again."
        )
