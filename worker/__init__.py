"""ordermesh-sync: keeps other systems in step with OrderMesh orders."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Return the version, which takes longer to find than most commands have to wait for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - takes time to import

    try:
        return version("ordermesh-sync")
    except PackageNotFoundError:  # run from a folder in which nothing was installed
        return "0+unknown"


class _ImportedWhenUsed(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


# redis-py imports PyJWT, and with it cryptography, for a kind of token that this program does not use.
sys.modules.setdefault("jwt", _ImportedWhenUsed("jwt"))
# httpx imports its command line, and with it rich and Pygments, if they are installed. It does without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # as Python marks a module that cannot be imported
# pydantic looks for plugins in every distribution that is installed, whenever a command starts. None is wanted here.
_plugins = ModuleType("pydantic.plugin._loader")
_plugins.get_plugins = tuple  # type: ignore[attr-defined] # a function without arguments that returns none
sys.modules.setdefault("pydantic.plugin._loader", _plugins)
