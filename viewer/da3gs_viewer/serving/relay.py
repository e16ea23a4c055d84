"""One port for everything: scenes, each shown by a server of its own on this machine, reached through the upload page's
port, so that a container, a tunnel or a firewall has to know of one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http
import http.client
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

PREFIX = "/scene/"
SUBPROTOCOL = "viser-"
"""How the words begin that viser's page and server agree on."""
_CARRIED = ("Content-Type", "Content-Encoding")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A server on this machine."""

    port: int
    """Where it listens on the loopback address."""
    token: str | None = dataclasses.field(default=None, repr=False)
    """What it asks for."""

    def path(self, rest: str) -> str:
        """What to ask it for."""
        return f"/{rest}" if self.token is None else f"/{rest}?token={self.token}"


class Relay:
    """Servers by paths that nobody guesses; what arrives below a path goes on to its server, answers come back."""

    def __init__(self) -> None:
        """There is none yet."""
        self._targets: dict[str, Target] = {}

    def add(self, target: Target) -> str:
        """The path at which a server is reached from now on, with a slash at its end."""
        key = secrets.token_urlsafe(12)
        self._targets[key] = target
        return f"{PREFIX}{key}/"

    def remove(self, path: str) -> None:
        """A server has gone."""
        self._targets.pop(path.removeprefix(PREFIX).rstrip("/"), None)

    def found(self, path: str) -> tuple[Target, str] | None:
        """The server of a request's path, and what is left of the path."""
        plain = path.partition("?")[0]
        if not plain.startswith(PREFIX):
            return None
        key, _, rest = plain.removeprefix(PREFIX).partition("/")
        target = self._targets.get(key)
        return None if target is None else (target, rest)

    async def page(self, connection: ServerConnection, request: Request) -> Response:
        """The answer to a request that is no WebSocket."""
        found = self.found(request.path)
        if found is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "404: this scene has gone\n")
        accepts = request.headers.get("Accept-Encoding", "")
        return await asyncio.to_thread(_fetched, found[0], found[1], accepts)

    async def talk(self, connection: ServerConnection) -> None:
        """Messages of a WebSocket, both ways, until either side ends it."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed

        assert connection.request is not None
        found = self.found(connection.request.path)
        if found is None:
            await connection.close(1008, "this scene has gone")
            return
        spoken = [connection.subprotocol] if connection.subprotocol is not None else None
        address = f"ws://127.0.0.1:{found[0].port}{found[0].path(found[1])}"
        try:
            async with connect(address, subprotocols=spoken, max_size=None, compression=None, proxy=None) as inner:
                await _both_ways(connection, inner)
        except (OSError, ConnectionClosed):
            pass
        await connection.close()


def spoken(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The subprotocol to take: viser's page names its version, which its server wants to hear."""
    return next((word for word in offered if word.startswith(SUBPROTOCOL)), None)


def _fetched(target: Target, rest: str, accepts: str) -> Response:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    inner = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    try:
        inner.request("GET", target.path(rest), headers={"Accept-Encoding": accepts})
        answer = inner.getresponse()
        body = answer.read()
    finally:
        inner.close()
    headers = Headers()
    for name in _CARRIED:
        if (value := answer.headers.get(name)) is not None:
            headers[name] = value
    headers["Content-Length"] = str(len(body))
    return Response(answer.status, answer.reason, headers, body)


async def _both_ways(outer: ServerConnection, inner: ClientConnection) -> None:
    async def copied(source: ServerConnection | ClientConnection, goal: ServerConnection | ClientConnection) -> None:
        """Every message, as it comes; a slow reader slows the writer."""
        async for message in source:
            await goal.send(message)

    tasks = {asyncio.create_task(copied(outer, inner)), asyncio.create_task(copied(inner, outer))}
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
