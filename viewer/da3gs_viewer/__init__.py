"""The viewer: a scene in the browser, to walk through and to compare with its photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from da3gs_viewer.app import Viewer as Viewer
    from da3gs_viewer.app import view as view

__all__ = ["Viewer", "view"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'da3gs_viewer' has no attribute {name!r}")
    from da3gs_viewer import app

    return getattr(app, name)
