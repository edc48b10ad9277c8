"""The page: what `ordersync status` and other commands show, in a browser. It changes nothing."""

from __future__ import annotations
