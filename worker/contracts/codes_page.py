"""The page of exit codes of the commands, and of the error codes that the log and the run records contain."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from ordersync_consumer import errors as consumer_errors
from worker import errors
from worker.contracts.markdown import page, table
from worker.errors import ordermesh, receivers, redis, refusals
from worker.service.watchdog import HANG_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT_CODES = (
    (
        "0",
        "every command",
        "The command has done what it was asked to do. A daemon was asked to stop and has stopped.",
    ),
    ("1", "every command", "The command failed; standard error has the reason."),
    (
        "1",
        "`health`",
        "No worker is alive, or the data it publishes is not fresh; standard output has the reason.",
    ),
    (
        "1, 2, 3",
        "`doctor`",
        (
            "At least one problem was found, or what the worker needs was not checked in time; the code is the highest "
            "of the codes of the problems."
        ),
    ),
    ("1", "`contract probe`", "The list of a polled resource cannot be read."),
    ("1", "`run --once`", "At least one resource could not be read to its end, or deletions are held back."),
    ("1", "`resync --wait`, `resync --dry-run`", "The resync did not finish, or some ids were not found."),
    ("1", "`dead replay`", "At least one letter could not be replayed and is kept."),
    ("1", "`resume`", "The resource was resumed, but its account is still paused."),
    ("1", "`consume`", "The consumer group was dropped, or with `--once` the command fails for every event."),
    ("2", "every command", "An option, an argument or a setting is wrong, or OrderMesh refuses the login."),
    ("2", "`consume`", "The command cannot be started, or another process uses the same `--name`."),
    (
        "3",
        "every command",
        "Redis or the gateway cannot be reached or refuses the command; reading works while Redis refuses writes.",
    ),
    (
        str(HANG_STATUS),
        "`run`",
        "The watchdog ended a worker that made no progress (`worker_hangs` in the log).",
    ),
    ("130", "every command", "Ctrl-C during the start."),
    ("128 + number of the signal", "`run`", "A second signal ended the daemon immediately."),
)
_CODES = """\
Every expected error has a code. The log has it in the field `error_code`; the run records and
`ordersync runs --json` have it too. The last column is the exit code of a command that ends with this error.
"""


def codes_page() -> str:
    """Return the whole page."""
    rows = [
        (f"`{error.code}`", f"`{error.__name__}`", _first_line(error), str(error.exit_status))
        for error in _errors()
    ]
    return page(
        "Exit codes and error codes",
        "Results go to standard output, messages and logs to standard error.",
        "## Exit codes\n\n" + table(("code", "command", "meaning"), _EXIT_CODES),
        f"## Error codes\n\n{_CODES}",
        table(("error code", "class in `worker/errors`", "meaning", "exit code"), rows),
    )


def _errors() -> Iterator[type[errors.OrdersyncError]]:
    """Yield the classes of errors that have a code of their own, in the order in which they are defined."""
    shared = [value for value in vars(errors).values() if _module_of(value) == consumer_errors.__name__]
    own = [
        value
        for module in (redis, receivers, ordermesh, refusals)
        for value in vars(module).values()
        if _module_of(value) == module.__name__
    ]
    for value in (*shared, *own):
        if isinstance(value, type) and issubclass(value, errors.OrdersyncError) and "code" in vars(value):
            yield value


def _module_of(value: object) -> str:
    return str(getattr(value, "__module__", ""))


def _first_line(error: type[errors.OrdersyncError]) -> str:
    return (inspect.getdoc(error) or "").partition("\n")[0]
