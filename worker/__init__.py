"""ordermesh-sync: keeps other systems in step with OrderMesh orders."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ordermesh-sync")
except PackageNotFoundError:  # run from a folder in which nothing was installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
