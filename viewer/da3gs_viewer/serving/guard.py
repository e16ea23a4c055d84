"""Guard of the server: every request and every WebSocket is looked at before anything answers it."""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import http
import http.cookies
import inspect
import ipaddress
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from da3gs.errors import BackendError, InputError
from da3gs_viewer.serving.address import is_loopback, is_wildcard

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_STARTING = threading.Lock()

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What every answer carries."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guard:
    """The rule: our own address in Host, none or our own in Origin, and the token where others can reach us."""

    host: str
    """Where the server listens."""
    url: str | None = None
    """The address that people type where it is another one: behind a container's port, a tunnel or a proxy."""
    token: str | None = dataclasses.field(default=None, repr=False)
    """What everybody must show; None on a loopback address."""

    @classmethod
    def of(cls, host: str, *, url: str | None = None, anyone: bool = False) -> Guard:
        """The guard of a server that listens on ``host``, with a fresh token unless only this machine can reach it.

        Args:
            url: what people type, ``http://name:port``, where it is not this address.
            anyone: ask for no token, whoever reaches it.

        Raises:
            InputError: the URL is none, or has a path.
        """
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or _split(parts.netloc)[0] is None or parts.path.strip("/"):
                raise InputError(f"--url {url[:80]!r} is no address like http://name:8080; paths are not served")
            url = f"{parts.scheme}://{parts.netloc.lower()}"
        needed = not anyone and (url is not None or not is_loopback(host))
        return cls(host=host, url=url, token=secrets.token_urlsafe(24) if needed else None)

    @property
    def framing(self) -> str:
        """The policy on pages that show ours in a frame: none may, but where nobody is asked for a token."""
        return "frame-ancestors *" if self.token is None and self.url is not None else "frame-ancestors 'none'"

    def refusal(
        self, hosts: list[str], origins: list[str], cookies: list[str], path: str, local: tuple[str, int]
    ) -> str | None:
        """Why a request is not answered, or None where it is.

        Args:
            hosts, origins, cookies: all headers of these names.
            path: as in the request line, with its query.
            local: the address and port at which the request arrived.
        """
        port = local[1]
        if len(hosts) != 1 or not self._is_ours(hosts[0], local):
            return "this address is not the viewer's"
        if len(origins) > 1 or (origins and not self._is_our_origin(origins[0], local)):
            return "requests from other pages are not answered"
        if self.token is not None and not self._shown(cookies, path, port):
            return "the link lacks its token; use the one that da3gs printed"
        return None

    def cookie(self, path: str, port: int) -> str | None:
        """The cookie to set where the token came in the address, so that later requests do not need it there."""
        if self.token is None or not self._same(_query_token(path)):
            return None
        secure = "; Secure" if self.url is not None and self.url.startswith("https:") else ""
        return f"{_cookie_name(port)}={self.token}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def link(self, url: str) -> str:
        """The address with what it takes to be let in."""
        if self.token is None:
            return url
        return f"{url}{'&' if '?' in url else '?' if urlsplit(url).path else '/?'}token={self.token}"

    def _is_ours(self, name: str, local: tuple[str, int]) -> bool:
        """Whether a Host header names us. An address must be that at which the request arrived: a name that somebody
        else's DNS points at us is none of ours."""
        return self._is_public(name) or self._is_local(name, local)

    def _is_local(self, name: str, local: tuple[str, int]) -> bool:
        host, port = _split(name)
        if port != local[1] or host is None:
            return False
        if is_loopback(self.host) or is_loopback(local[0]):
            return host in _LOOPBACK or host == self.host.lower()
        ours = {_bracketed(local[0]), _bracketed(self.host), *_own_names()}
        return host in ours and not is_wildcard(host.strip("[]"))

    def _is_public(self, name: str) -> bool:
        """Whether a Host header is the address that people type; one name of this machine is as good as another."""
        if self.url is None:
            return False
        usual = 443 if self.url.startswith("https:") else 80
        (host, port), (wanted, at) = _split(name, usual), _split(urlsplit(self.url).netloc, usual)
        return port == at and (host == wanted or (wanted in _LOOPBACK and host in _LOOPBACK))

    def _is_our_origin(self, origin: str, local: tuple[str, int]) -> bool:
        scheme, _, name = origin.partition("://")
        if self.url is not None and scheme == urlsplit(self.url).scheme and self._is_public(name):
            return True
        return scheme == "http" and self._is_local(name, local)

    def _shown(self, cookies: list[str], path: str, port: int) -> bool:
        given = _query_token(path)
        if given is not None:
            return self._same(given)
        for line in cookies:
            jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
            with contextlib.suppress(http.cookies.CookieError):
                jar.load(line)
            if (found := jar.get(_cookie_name(port))) is not None:
                return self._same(found.value)
        return False

    def _same(self, given: str | None) -> bool:
        return given is not None and self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def checked(self, inner: Callable[..., Any] | None) -> Callable[..., Any]:
        """A ``process_request`` that asks this guard first and then ``inner``."""

        async def process_request(connection: ServerConnection, request: Request) -> Response | None:
            """Refuse, or hand on to the server's own rule."""
            headers, local = request.headers, connection.local_address[:2]
            refused = self.refusal(
                headers.get_all("Host"), headers.get_all("Origin"), headers.get_all("Cookie"), request.path, local
            )
            if refused is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, f"403: {refused}\n")
            answer = None if inner is None else inner(connection, request)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is not None:
                for name, value in HEADERS.items():
                    answer.headers.setdefault(name, value)
                if "Content-Security-Policy" not in answer.headers:
                    answer.headers["Content-Security-Policy"] = self.framing
                if (cookie := self.cookie(request.path, local[1])) is not None:
                    answer.headers["Set-Cookie"] = cookie
            return answer

        return process_request


def _split(name: str, usual: int = 80) -> tuple[str | None, int]:
    """Host (lower case, IPv6 in brackets) and port of ``host:port``; no port is the usual one."""
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None, -1
    if host is None or parts.path or parts.query or parts.fragment or "@" in name:
        return None, -1
    return _bracketed(host), usual if port is None else port


def _bracketed(host: str) -> str:
    """An IPv6 address in brackets, anything else as it is; an IPv4 address within IPv6 as IPv4.

    >>> _bracketed("::1"), _bracketed("::ffff:10.0.0.1"), _bracketed("here")
    ('[::1]', '10.0.0.1', 'here')
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower()
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped) if address.ipv4_mapped is not None else f"[{address}]"
    return str(address)


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name}.local"}


def _query_token(path: str) -> str | None:
    try:
        values = parse_qs(urlsplit(path).query).get("token")
    except ValueError:
        return None
    return None if values is None else values[-1]


def _cookie_name(port: int) -> str:
    """Cookies are shared by all ports of a host, so each server has one of its own."""
    return f"da3gs_{port}"


def quiet_logger() -> logging.Logger:
    """For the servers: request lines can hold the token, so nothing of them is logged."""
    logger = logging.getLogger("da3gs_viewer.connections")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger


@contextlib.contextmanager
def guarding(guard: Guard) -> Iterator[None]:
    """Every WebSocket server that starts inside of this block is behind the guard.

    viser has no hook of its own before the handshake. It looks its ``serve`` up when it starts, which is when ours
    takes its place.

    Raises:
        BackendError: no server started, or one did in another way: it would have been open to everybody.
    """
    import websockets.asyncio.server as module

    plain, started = module.serve, 0

    def serve(handler: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Start a server behind the guard."""
        nonlocal started
        started += 1
        options |= {"process_request": guard.checked(options.get("process_request")), "logger": quiet_logger()}
        return plain(handler, host, port, **options)

    with _STARTING:
        module.serve = serve  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            module.serve = plain  # type: ignore[misc]
    if not started:
        raise BackendError("this viser starts its server in a way that da3gs cannot guard; install viser 1.1")
