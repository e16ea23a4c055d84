"""``da3gs view``: the scene in the browser."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError

if TYPE_CHECKING:
    from da3gs.gaussians import Gaussians
    from da3gs.scene import Scene

USUAL_PORT = 8080


@dataclasses.dataclass(frozen=True, kw_only=True)
class View(Command):
    """Walk through a scene or a splat file in the browser; photos are reconstructed first (and not saved).

    Click a photo's frustum to stand where it was taken. Ctrl-C ends it.
    """

    inputs: Annotated[Positional[tuple[str, ...]], option("SCENE|FILE|INPUT...", hint="")]
    """A scene folder, a splat file, or what `da3gs reconstruct` takes."""
    host: Annotated[str, option("ADDRESS")] = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets others on the network in."""
    port: Annotated[int, option("N")] = USUAL_PORT
    """Port to listen on; 0 takes any free one."""
    no_browser: Switch = False
    """Do not open a browser window."""
    model: Annotated[str, option("NAME|FILE|FOLDER")] = "da3gs-nano"
    """For photos: what reconstructs them."""
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Open, serve, until interrupted."""
        if not self.inputs:
            raise InputError("nothing to view: name a scene, a splat file or photos (see da3gs view --help)")
        from da3gs_viewer.address import check_address

        check_address(self.host, self.port)
        show(self._open(session), session, host=self.host, port=self.port, open_browser=not self.no_browser)
        return 0

    def _open(self, session: Session) -> Scene | Gaussians:
        from da3gs.cli._scenes import is_scene_or_splats, open_scene

        if len(self.inputs) == 1 and is_scene_or_splats(self.inputs[0]):
            return open_scene(self.inputs[0])
        from da3gs.cli.reconstruct import one_or_many
        from da3gs.pipeline.reconstruct import reconstruct

        with session.progress() as progress:
            return reconstruct(
                one_or_many([Path(word) for word in self.inputs]),
                model=self.model,
                device=self.common.device,
                threads=self.common.threads,
                seed=self.common.seed or 0,
                progress=progress,
            )


def show(
    scene: Scene | Gaussians,
    session: Session,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    facts: dict[str, Any] | None = None,
) -> None:
    """Serve a scene until interrupted, and print the address when it is ready.

    Args:
        port: None takes the usual one, or any other that is free.
        facts: what else the one JSON object holds.
    """
    from da3gs_viewer import view
    from da3gs_viewer.address import check_address

    if port is None:
        try:
            check_address(host, USUAL_PORT)
            port = USUAL_PORT
        except InputError:
            port = 0

    def ready(url: str) -> None:
        session.result({**(facts or {}), "url": url})
        session.print(f"{url}  (Ctrl-C ends it)")
        session.flush()
        session.release()

    with contextlib.redirect_stdout(io.StringIO()):  # viser says when it stops
        view(scene, host=host, port=port, open_browser=open_browser, ready=ready)


COMMAND = View
