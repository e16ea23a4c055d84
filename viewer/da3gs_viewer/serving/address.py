"""Address of the viewer, checked before it starts, since the server would try other ports by itself."""

from __future__ import annotations

import errno
import ipaddress
import socket

from da3gs.errors import BackendError, InputError


def check_address(host: str, port: int) -> None:
    """Make sure that a server can listen there.

    Raises:
        InputError: the host is not this machine, or the port is out of range, in use or reserved.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port} is out of range; give 1 to 65535, or 0 for any free one")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise InputError(f"--host {host!r} is no address of this machine; use 127.0.0.1 or 0.0.0.0") from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise _refusal(host, port, error) from None


def _refusal(host: str, port: int, error: OSError) -> InputError | BackendError:
    match error.errno:
        case errno.EADDRINUSE:
            return InputError(f"port {port} on {host} is in use; choose another with --port, or 0 for any free one")
        case errno.EADDRNOTAVAIL:
            return InputError(f"--host {host!r} is no address of this machine; use 127.0.0.1 or 0.0.0.0")
        case errno.EACCES | errno.EPERM:
            return InputError(f"port {port} is reserved for the system; choose one from 1024 up with --port")
    return BackendError(f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port")


def page_url(host: str, port: int) -> str:
    """The address to open in a browser on this machine.

    >>> page_url("0.0.0.0", 8080), page_url("::1", 8080)
    ('http://127.0.0.1:8080', 'http://[::1]:8080')
    """
    if is_wildcard(host):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a server on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether a server on ``host`` listens on every address of the machine."""
    if not host:
        return True
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
