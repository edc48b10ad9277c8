"""All groups of operations, as the client exposes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.services.catalog import Categories, MerchantCatalogs, Products, Variants
from worker.ordermesh.services.note import Notes
from worker.ordermesh.services.order import OrderItems, Orders
from worker.ordermesh.services.shipment import Packages, Shipments
from worker.ordermesh.services.user import Clients, Users

if TYPE_CHECKING:
    from worker.clock import Clock
    from worker.ordermesh.services.group import Caller


class TypedServices:
    """The 79 operations of `client`, in eleven groups. `clock` times the look-ups of `orders.create_once`."""

    def __init__(self, client: Caller, clock: Clock) -> None:
        self.clients = Clients(client)
        self.users = Users(client)
        self.orders = Orders(client, clock)
        self.order_items = OrderItems(client)
        self.notes = Notes(client)
        self.categories = Categories(client)
        self.merchant_catalogs = MerchantCatalogs(client)
        self.products = Products(client)
        self.variants = Variants(client)
        self.shipments = Shipments(client)
        self.packages = Packages(client)
