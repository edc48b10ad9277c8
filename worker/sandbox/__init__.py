"""A local OrderMesh: HTTP on loopback, all operations on stateful records, logins, and faults on demand.

It is for trials without an account (`ordersync run --sandbox`) and for tests. The engine never imports it.
"""

from worker.sandbox.auth import (
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    USERNAME,
    Auth,
    IssuedCredentials,
    Lifetimes,
)
from worker.sandbox.contract import PLURAL, ContractError, ServedContract
from worker.sandbox.contract_options import parse_contract
from worker.sandbox.data.orders import OrderFactory
from worker.sandbox.data.shipment_data import ShipmentStatus
from worker.sandbox.faults import FaultRule, FaultRuleError, Faults, load_faults, parse_faults
from worker.sandbox.permissions import Permissions, PermissionsError
from worker.sandbox.requests import RequestLog, RequestRecord
from worker.sandbox.server.server import (
    NotLoopbackError,
    PortInUseError,
    SandboxError,
    SandboxOptions,
    SandboxReady,
    SandboxServer,
    serve,
)
from worker.sandbox.state.store import Store, StoreStatistics, UnknownOrderError
from worker.sandbox.state.world import World

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "PASSWORD",
    "PLURAL",
    "USERNAME",
    "Auth",
    "ContractError",
    "FaultRule",
    "FaultRuleError",
    "Faults",
    "IssuedCredentials",
    "Lifetimes",
    "NotLoopbackError",
    "OrderFactory",
    "Permissions",
    "PermissionsError",
    "PortInUseError",
    "RequestLog",
    "RequestRecord",
    "SandboxError",
    "SandboxOptions",
    "SandboxReady",
    "SandboxServer",
    "ServedContract",
    "ShipmentStatus",
    "Store",
    "StoreStatistics",
    "UnknownOrderError",
    "World",
    "load_faults",
    "parse_contract",
    "parse_faults",
    "serve",
]
