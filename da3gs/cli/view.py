"""``da3gs view``: the scene in the browser."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from da3gs.cli._parse import (
    DRAWING,
    NO_WORDS,
    SEEDED_DRAWING,
    Command,
    Drawing,
    FileFrame,
    SeededDrawingOptions,
    Switch,
    Words,
    option,
)
from da3gs.cli._session import Session
from da3gs.errors import InputError

if TYPE_CHECKING:
    from da3gs.exports.splat_file import BareSplats
    from da3gs.scene import Scene
    from da3gs_viewer.serving.guard import Guard

USUAL_PORT = 8080


@dataclasses.dataclass(frozen=True, kw_only=True)
class View(Command):
    """Walk through a scene or a splat file in the browser; photos are reconstructed first (and not saved).

    Without any input it opens a page to which photos, a zip or a video can be sent. Click a photo's frustum to stand
    where it was taken. Ctrl-C ends it.
    """

    inputs: Annotated[Words, option("SCENE|FILE|INPUT...", hint="")] = NO_WORDS
    """A scene folder, a splat file, or what `da3gs reconstruct` takes."""
    frame: FileFrame = None
    """Axes of the numbers of a splat file: opencv, opengl, colmap or supersplat."""
    host: Annotated[str, option("ADDRESS")] = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets others on the network in."""
    port: Annotated[int, option("N")] = USUAL_PORT
    """Port to listen on; 0 takes any free one."""
    url: Annotated[Optional[str], option("http://NAME[:PORT]", hint="")] = None
    """The address that people type, where it is another one: behind a container's port, a tunnel or a proxy."""
    open: Switch = False
    """Of --url: ask for no token; whoever reaches the address can use it, and this machine's disk and processor."""
    no_browser: Switch = False
    """Do not open a browser window."""
    model: Annotated[str, option("auto|NAME|FILE|FOLDER")] = "auto"
    """For photos: what reconstructs them."""
    keep: Annotated[Optional[str], option("DIR", hint="")] = None
    """Of the upload page: where uploads and scenes stay; else they go when it ends."""
    max_files: Annotated[int, option("N")] = 2000
    """Of the upload page: most files at once."""
    max_megabytes: Annotated[float, option("X")] = 2000.0
    """Of the upload page: most MB at once."""
    max_video_minutes: Annotated[float, option("X")] = 10.0
    """Of the upload page: longest video."""
    common: SeededDrawingOptions = SEEDED_DRAWING

    def run(self, session: Session) -> int:
        """Open, serve, until interrupted."""
        from da3gs_viewer.serving.address import check_address
        from da3gs_viewer.serving.guard import Guard

        check_address(self.host, self.port)
        if self.open and self.url is None:
            raise InputError("--open goes with --url, the address at which everybody may come")
        guard = Guard.of(self.host, url=self.url, anyone=self.open)
        if not self.inputs:
            self._serve_uploads(session, guard)
            return 0
        show(
            self._read(session), session, host=self.host, port=self.port, open_browser=not self.no_browser,
            drawing=self.common, guard=guard,
        )  # fmt: skip
        return 0

    def _serve_uploads(self, session: Session, guard: Guard) -> None:
        """The upload page, until interrupted."""
        import webbrowser

        from da3gs_viewer.app import has_display
        from da3gs_viewer.uploads import UploadLimits, Uploads

        limits = UploadLimits(files=self.max_files, megabytes=self.max_megabytes, video_minutes=self.max_video_minutes)
        keep = None if self.keep is None else Path(self.keep)
        model = self.model if not Path(self.model).exists() else str(Path(self.model).resolve())
        with Uploads(
            host=self.host, port=self.port, model=model, limits=limits, keep=keep,
            options=self.common.keywords(), guard=guard,
        ) as uploads:  # fmt: skip
            _say_ready(session, uploads.url, {})
            if not self.no_browser and has_display():
                webbrowser.open(uploads.url)
            uploads.wait()

    def _read(self, session: Session) -> Scene | BareSplats:
        from da3gs.cli._scenes import is_scene_or_splats, open_scene

        if len(self.inputs) == 1 and is_scene_or_splats(self.inputs[0]):
            return open_scene(self.inputs[0], frame=self.frame, device=self.common.device)
        if self.frame is not None:
            raise InputError(f"--frame {self.frame} is for a splat file; photos have no axes")
        from da3gs.cli._scenes import one_or_many
        from da3gs.pipeline.reconstruct import reconstruct

        with session.progress() as progress:
            return reconstruct(
                one_or_many([Path(word) for word in self.inputs]),
                model=self.model,
                progress=progress,
                **self.common.keywords(),
            )


def show(
    scene: Scene | BareSplats,
    session: Session,
    *,
    host: str = "127.0.0.1",
    port: Optional[int] = None,
    open_browser: bool = True,
    drawing: Drawing = DRAWING,
    facts: dict[str, Any] | None = None,
    guard: Guard | None = None,
) -> None:
    """Serve a scene until interrupted, and print the address when it is ready.

    Args:
        port: None takes the usual one, or any other that is free.
        drawing: device and backend of the server's pictures.
        facts: what else the one JSON object holds.
        guard: who may look in; None makes one.
    """
    from da3gs_viewer import view
    from da3gs_viewer.serving.address import check_address

    if port is None:
        try:
            check_address(host, USUAL_PORT)
            port = USUAL_PORT
        except InputError:
            port = 0

    with contextlib.redirect_stdout(io.StringIO()):  # viser says when it stops
        view(
            scene,
            host=host,
            port=port,
            open_browser=open_browser,
            device=drawing.device,
            backend=drawing.backend,
            ready=lambda url: _say_ready(session, url, facts or {}),
            guard=guard,
        )


def _say_ready(session: Session, url: str, facts: dict[str, Any]) -> None:
    """From now on the page can be opened."""
    session.result({**facts, "url": url})
    session.print(f"{url}  (Ctrl-C ends it)")
    session.flush()
    session.release()


COMMAND = View
