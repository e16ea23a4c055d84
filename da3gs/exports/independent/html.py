"""Pages of ours: a .sog in a script element that is no script, and a description in another."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import json
import zipfile
from pathlib import Path

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats
from da3gs.exports.independent.sog import decode_files, unpacked


def decode(path: Path) -> DecodedSplats:
    """The splats of a page."""
    said = {"splats": "", "scene": ""}

    class Reader(html.parser.HTMLParser):
        inside = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            """Note the script that begins."""
            self.inside = (dict(attrs).get("id") or "") if tag == "script" else ""

        def handle_data(self, data: str) -> None:
            """Keep the text of scripts that are wanted."""
            if self.inside in said:
                said[self.inside] += data

        def handle_endtag(self, tag: str) -> None:
            """The script ends."""
            self.inside = ""

    Reader().feed(path.read_text("utf-8"))
    packed = base64.b64decode(said["splats"].strip(), validate=True)
    if not packed:
        raise InputError(f"{path.name} is a page without splats, or cut short")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        stored = decode_files(path.name, lambda entry: unpacked(archive, entry), kind=".html")
    axes = json.loads(said["scene"] or "{}").get("axes")
    return dataclasses.replace(stored, axes=axes, reason="stated by the file") if axes else stored
