"""Every operation as a typed method, in groups named after the first part of its key: `client.orders.search(...)`.

Each service of OrderMesh has a module. Methods take the parameters of the path in order, known and expected filters as
keywords, and any other query parameter in `extra`. Pages are counted from 0, even if the gateway counts from 1. Most
paths are inferred and may differ at a gateway; the contract profile has the ones that are used.
"""

from worker.ordermesh.services.all import TypedServices

__all__ = ["TypedServices"]
