"""An independent gateway: an OrderMesh that shares no code with the worker and its sandbox, and a judge of the events.

The gateway keeps every state that a record has ever had, serves them over HTTP from a thread of its own, and can be
told to do anything wrong while it runs. The judge holds the streams in Redis against that history. How a test uses
them:

    with Gateway(orders=200) as gateway, Judge(gateway, redis_url) as judge:
        with Program(tmp_path, **gateway.settings(redis_url, tmp_path)):      # a real daemon (support/programs.py)
            await judge.recovered()                                           # the first read has been published
            storm = gateway.faults.add("status", code=503)
            changed = gateway.history.change("orders", gateway.history.ids("orders")[:20])
            storm.end()
            seconds = await judge.recovered()                                 # nothing is missed any more
        assert judge.verdict().counts == {}                                   # nor twice, out of order, ...

`gateway.history` changes records and the gateway's clock, `gateway.serving` is the contract with its lies, and
`gateway.faults` spoils answers; each says in its docstring what it can do. `tests.support.proxy` does the same to
connections, to this gateway or to Redis. A worker in the process of the test: `tests.support.campaign`.
"""

from tests.support.gateway.history import KINDS, OTHER, OWN, History, written
from tests.support.gateway.judge import Judge, Told, Verdict
from tests.support.gateway.server import CLIENT_ID, CLIENT_SECRET, Asked, Gateway
from tests.support.gateway.serving import Fault, Serving

__all__ = (
    "CLIENT_ID",
    "CLIENT_SECRET",
    "KINDS",
    "OTHER",
    "OWN",
    "Asked",
    "Fault",
    "Gateway",
    "History",
    "Judge",
    "Serving",
    "Told",
    "Verdict",
    "written",
)
