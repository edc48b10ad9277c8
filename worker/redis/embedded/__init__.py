"""The embedded server: a Valkey that `ordersync run` starts when no Redis URL is set.

It listens on a Unix socket in a folder that only this user may enter, and stores its data, with the append-only file
on, in the data folder. The worker that started the server stops it. If that worker was killed, the next worker takes
over the server. Other programs reach it over TCP if a port is set, with a password.
"""

from worker.redis.embedded.lifecycle import server
from worker.redis.embedded.record import Running, address_of, find, folder

__all__ = ["Running", "address_of", "find", "folder", "server"]
