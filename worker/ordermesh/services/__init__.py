"""Every operation as a typed method, in groups named by the first part of its key: `client.orders.search(...)`.

One module for each service of OrderMesh. Methods take the parameters of the path in their order, the filters that
are known or expected as keywords, and any other query parameter in `extra`. Pages are counted from 0, whatever the
gateway does. Most paths are inferred, so each of them may stand elsewhere: the contract profile says where.
"""

from worker.ordermesh.services.all import TypedServices

__all__ = ["TypedServices"]
