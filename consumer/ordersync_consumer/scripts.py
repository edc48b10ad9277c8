"""Lua scripts and functions. Each is a file whose header states its keys, arguments, answer and invariants."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from ordersync_consumer.errors import FunctionMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    Send = Callable[..., Awaitable[Any]]
    """Sends one command to Redis, given as words, and returns the answer."""

_LOADS = 3
"""How often a script is loaded for one call: a server that restarts in between has forgotten it."""
_FLAGS = re.compile(r"^-- Flags: (.+)$", re.MULTILINE)
_NO_FUNCTIONS = re.compile(r"Function not found|unknown command|'fcall'", re.IGNORECASE)
_NO_SCRIPTS = re.compile(r"'(evalsha|script(\|load)?)'", re.IGNORECASE)


def load(redis: Redis, package: str, name: str, *, begin: Sequence[str] = ()) -> AsyncScript:
    """Return the script `lua/NAME.lua` of a package. It is sent with its first call, then called by its hash.

    `begin` names files with functions that the script uses; their text is put before it. They are of the same package,
    or of another one: `PACKAGE:NAME`.
    """
    return redis.register_script(_whole(package, name, begin))


class Function:
    """A Lua file that is called as a function of the server where the worker has loaded it, else as a script.

    A user who may call functions, and neither send nor load scripts, can do with Redis only what the files do. Where
    there are no functions (before Redis 7.0, or no worker has loaded them), the text is sent as a script, which needs
    the rights for that. The name contains a hash of the text, so programs of several versions use one server.
    """

    def __init__(self, redis: Redis, package: str, name: str, begin: Sequence[str] = ()) -> None:
        self._redis, text = redis, _whole(package, name, begin)
        self.name, self.library = library_of(name, text)
        self._text, self._sha = text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._is_script = False

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Return the answer, with a connection of the pool. Raises what `call` raises."""
        return await self.call(self._redis.execute_command, keys, args)

    async def call(self, send: Send, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Return the answer.

        Args:
            send: Sends one command.
            keys: The keys.
            args: The arguments.

        Raises:
            FunctionMissing: The server does not have the function, and the user may not send scripts.
            RedisError: The command failed.

        """
        words, is_denied = (len(keys), *keys, *args), False
        if not self._is_script:
            try:
                return await send("FCALL", self.name, *words)
            except ResponseError as error:
                if not _NO_FUNCTIONS.search(str(error)):
                    raise
                is_denied = isinstance(error, NoPermissionError)
        try:
            answer = await self._send_script(send, words)
        except NoPermissionError as error:
            if _NO_SCRIPTS.search(str(error)) and not is_denied:
                raise FunctionMissing(self.name) from None
            raise
        self._is_script = True
        return answer

    async def _send_script(self, send: Send, words: tuple[Any, ...]) -> Any:
        for _ in range(_LOADS):
            try:
                return await send("EVALSHA", self._sha, *words)
            except NoScriptError:
                await send("SCRIPT", "LOAD", self._text)
        return await send("EVALSHA", self._sha, *words)


async def load_functions(redis: Redis, functions: Iterable[tuple[str, str, Sequence[str]]]) -> list[str]:
    """Load functions into the server, and return the names of those that it did not have.

    Args:
        redis: A client whose user may load functions.
        functions: Package, name and begin of each, as for `Function`.

    Raises:
        ResponseError: The server has no functions, the user may not load them, or Redis is full.

    """
    made = [library_of(name, _whole(package, name, begin)) for package, name, begin in functions]
    pipe = redis.pipeline(transaction=False)
    for _, library in made:
        pipe.function_load(library)
    answers = await pipe.execute(raise_on_error=False)
    loaded = []
    for (name, _), answer in zip(made, answers, strict=True):
        if not isinstance(answer, Exception):
            loaded.append(name)
        elif "already exists" not in str(answer):
            raise answer
    return loaded


@cache
def library_of(name: str, text: str) -> tuple[str, str]:
    """Return the name of the function that a Lua text makes, and the library to load. Pure."""
    full_name = f"ordersync_{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    named = _FLAGS.search(text)
    flags = ", ".join(f"'{flag.strip()}'" for flag in named[1].split(",")) if named else ""
    return full_name, (
        f"#!lua name={full_name}\n"
        f"redis.register_function{{function_name='{full_name}', flags={{{flags}}}, callback=function(KEYS, ARGV)\n"
        f"{text}\nend}}\n"
    )


def _whole(package: str, name: str, begin: Sequence[str]) -> str:
    return _joined(package, name, tuple(begin))


@cache
def _joined(package: str, name: str, begin: tuple[str, ...]) -> str:
    """Return the text of a script. Every account of a process has the same one."""
    return "\n".join(_text(package, part) for part in (*begin, name))


def _text(package: str, name: str) -> str:
    other, _, file = name.rpartition(":")
    return files(other or package).joinpath("lua", f"{file}.lua").read_text(encoding="utf-8")
