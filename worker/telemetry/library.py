"""structlog without two packages that it imports if they are installed.

Tracebacks of the log are plain, and need no rich. Only Windows needs colorama for colours.
"""

from __future__ import annotations

import sys

_WITHOUT = ("rich",) if sys.platform == "win32" else ("colorama", "rich")
_hidden = {name: sys.modules.get(name) for name in _WITHOUT}
sys.modules.update(dict.fromkeys(_WITHOUT))  # type: ignore[arg-type] # as Python marks a module that cannot be imported
try:
    import structlog
finally:
    for _name, _module in _hidden.items():
        if _module is None:
            del sys.modules[_name]
        else:
            sys.modules[_name] = _module

__all__ = ["structlog"]
