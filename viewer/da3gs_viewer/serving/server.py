"""viser's server, as far as it needs taming: guarded, quiet, on the port that was asked for."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

from da3gs._optional import require
from da3gs.errors import InputError, MissingDependencyError
from da3gs_viewer.serving.address import check_address, is_loopback
from da3gs_viewer.serving.guard import Guard, guarding

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)


def start_server(host: str, port: int, guard: Guard) -> viser.ViserServer:
    """A server that listens, with nothing in it yet.

    Args:
        port: 0 takes any free one.

    Raises:
        InputError: the host or the port cannot be had.
        MissingDependencyError: viser is missing or too old.
    """
    require_viser()
    check_address(host, port)
    import viser

    class Server(viser.ViserServer):
        """One that does not open a tunnel to the internet when a browser asks for it."""

        def request_share_url(self, verbose: bool = True) -> str | None:
            """No link to the world outside: None."""
            return None

    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")  # people close windows at any time
    with guarding(guard), contextlib.redirect_stdout(io.StringIO()):
        server: Any = Server(host=host, port=port, label="da3gs", verbose=False)
    if port and server.get_port() != port:
        server.stop()
        raise InputError(f"port {port} on {host} is in use; choose another with --port")
    if not is_loopback(host):
        logger.warning(
            "--host %s: everybody who reaches this machine and has the link with its token can look in", host
        )
    server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
    return server


def require_viser() -> None:
    """Make sure of a viser that is new enough.

    Raises:
        MissingDependencyError: it is missing or too old.
    """
    version = require("viser", why="the viewer").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < (1, 1):
        raise MissingDependencyError(
            f"the viewer needs viser 1.1 or newer, found {version}; pip install -U viser, outside of nerfstudio's "
            "environment, which pins an older one"
        )
