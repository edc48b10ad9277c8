"""A local OrderMesh: real HTTP on loopback, stateful orders, logins, and faults on demand.

For trials without an account (`ordersync run --sandbox`) and for tests. The engine never imports it.
"""

from worker.sandbox.auth import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, Auth, Credentials, Lifetimes
from worker.sandbox.contract import Contract
from worker.sandbox.data import OrderFactory
from worker.sandbox.faults import FaultRule, FaultRuleError, Faults, load_faults, parse_faults
from worker.sandbox.requests import RequestLog, RequestRecord
from worker.sandbox.server import (
    NotLoopbackError,
    PortInUseError,
    SandboxError,
    SandboxOptions,
    SandboxReady,
    SandboxServer,
    serve,
)
from worker.sandbox.store import Store, StoreStatistics, UnknownOrderError

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "PASSWORD",
    "USERNAME",
    "Auth",
    "Contract",
    "Credentials",
    "FaultRule",
    "FaultRuleError",
    "Faults",
    "Lifetimes",
    "NotLoopbackError",
    "OrderFactory",
    "PortInUseError",
    "RequestLog",
    "RequestRecord",
    "SandboxError",
    "SandboxOptions",
    "SandboxReady",
    "SandboxServer",
    "Store",
    "StoreStatistics",
    "UnknownOrderError",
    "load_faults",
    "parse_faults",
    "serve",
]
