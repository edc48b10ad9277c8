"""The errors that a consumer may see. Every one has a stable `code`, and its message says what to do next.

OrdersyncError
├── SettingsError            wrong options or arguments
├── DataError                an entry in Redis that ordermesh-sync did not write
├── GroupGone                the consumer group was dropped while it was read
├── FunctionMissing          Redis lacks a function of this version, and scripts are not permitted
├── ConsumerReplaced         another process consumes under the same name
└── NotReplayable            a dead letter cannot be delivered again, or there is none
"""

from __future__ import annotations

from typing import ClassVar


class OrdersyncError(Exception):
    """The root of all expected errors. `exit_status` is the exit code of a command that ends with it."""

    code: ClassVar[str] = "failed"
    exit_status: ClassVar[int] = 1


class SettingsError(OrdersyncError):
    """Settings, a file or an argument cannot be used. The message names it and says what to do."""

    code = "settings"
    exit_status = 2


class DataError(OrdersyncError):
    """An entry in Redis was not written by this program. Nothing was changed."""

    code = "data"


class GroupGone(OrdersyncError):
    """The group no longer exists: it was dropped. One that Redis has lost is created again."""

    code = "group_gone"

    def __init__(self, group: str, streams: str) -> None:
        self.group, self.streams = group, streams
        super().__init__(
            f"group {group} of {streams} no longer exists: it was dropped while this consumer read it. Start the "
            "consumer again to create the group; it then starts with the oldest event in the stream."
        )


class ConsumerReplaced(OrdersyncError):
    """Another process consumes with the same name; this process stops."""

    code = "consumer_replaced"

    def __init__(self, group: str, name: str) -> None:
        self.group, self.name = group, name
        super().__init__(
            f"another process consumes for group {group} as {name!r}. Give each process its own name, and keep it "
            "after a restart: Consumer(..., name=...)."
        )


class FunctionMissing(OrdersyncError):
    """Redis does not have a function that this version calls, and its user may not send scripts."""

    code = "function_missing"
    exit_status = 3

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Redis does not have the function {name} of this version, and this user may not send scripts. Start a "
            "worker of the same version, which loads the functions within a minute, or load them as a user with the "
            "right to: ordersync_consumer.load_functions(client)."
        )


class NotReplayable(OrdersyncError):
    """A dead letter cannot be delivered again and is kept, or it does not exist."""

    code = "not_replayable"
