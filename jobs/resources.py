"""The resources that can be read: a short declaration each."""

from __future__ import annotations

from worker.capture.resources import Resource

ORDERS = Resource(name="orders", entity="order", search="orders.search")

RESOURCES: dict[str, Resource] = {resource.name: resource for resource in (ORDERS,)}
