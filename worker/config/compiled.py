"""Whether the compiled reader of content may be used.

A variable of the environment alone, since it is read before the settings are.
"""

from __future__ import annotations

import os

from worker.errors import SettingsError

COMPILED = "ORDERSYNC_COMPILED"
CHOICES = ("on", "off")
ABOUT_COMPILED = (
    "`off`: Python reads every record, which takes longer and gives the same. Set it in the environment; while the "
    "package is built, it leaves the compiled reader out"
)


def is_wanted() -> bool:
    """Return whether the compiled reader is used if it is there."""
    return os.environ.get(COMPILED) != "off"


def refuse_unknown_choice() -> None:
    """Refuse another value of the variable.

    Raises:
        SettingsError: The value is neither `on` nor `off`.

    """
    if os.environ.get(COMPILED, "on") not in CHOICES:
        raise SettingsError(f"{COMPILED}: must be on or off")
