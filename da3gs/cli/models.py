"""``da3gs models``: what there is to choose from, and getting it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

from tyro.conf import Positional

from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError

if TYPE_CHECKING:
    from da3gs.checkpoints.zoo import ModelCard


Action = Literal["list", "show", "download", "convert", "verify", "export"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models(Command):
    """List the models, show one, download official weights, convert, verify or export them.

    download fetches official weights from the Hugging Face hub into its ordinary cache, after saying what licence they
    have; a download that was broken off goes on where it stopped. convert writes official weights, or an old pickled
    file (read without running code), as one .safetensors file. verify checks names, shapes, values and checksums.
    export writes a model as .onnx: depth, confidence and cameras of --count photos of one --size.
    """

    action: Annotated[Positional[Action], option("list|show|download|convert|verify|export")] = "list"
    """What to do."""
    name: Annotated[Positional[Optional[str]], option("NAME|FILE|FOLDER", hint="")] = None
    """The model to show, download or verify; the weights to convert or verify."""
    output: Annotated[Optional[str], option("FILE", "-o", hint="")] = None
    """convert: the .safetensors file to write. export: the .onnx file."""
    overwrite: Switch = False
    """convert, export: replace an existing file."""
    dtype: Literal["same", "float32", "bfloat16", "float16"] = "same"
    """convert: precision in the file."""
    count: Annotated[int, option("N")] = 2
    """export: photos that the network sees at once."""
    size: Annotated[Optional[str], option("WxH", hint="(default: the model's long side, 4:3)")] = None
    """export: of the photos in pixels, multiples of 14."""
    commercial: Switch = False
    """list: only those whose licence allows commercial use."""
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Do it and print what came of it."""
        if self.output is not None and self.action not in ("convert", "export"):
            raise InputError(f"-o is for models convert and models export, not for models {self.action}; leave it out")
        if self.action == "list":
            self._list(session)
            return 0
        if self.name is None:
            needed = "FILE or FOLDER" if self.action == "convert" else "NAME"
            raise InputError(f"models {self.action} needs a {needed}; there are: {', '.join(_names())}")
        match self.action:
            case "show":
                self._show(self.name, session)
            case "download":
                self._download(self.name, session)
            case "convert":
                self._convert(self.name, session)
            case "verify":
                self._verify(self.name, session)
            case "export":
                self._export(self.name, session)
        return 0

    def _list(self, session: Session) -> None:
        from da3gs.checkpoints.zoo import MODELS

        if self.name is not None:
            raise InputError(
                f"models list takes no NAME, got {self.name!r}; did you mean: da3gs models show {self.name}"
            )
        cards = [card for card in MODELS.values() if card.commercial or not self.commercial]
        records = [card_record(card) for card in cards]
        session.result({"models": records})
        for line in table(records):
            session.print(line)

    def _show(self, name: str, session: Session) -> None:
        from da3gs.checkpoints.zoo import model_card

        _print_record(card_record(model_card(name)), session)

    def _download(self, name: str, session: Session) -> None:
        from da3gs.checkpoints.download import fetch_model, remote_model
        from da3gs.checkpoints.zoo import model_card

        remote = remote_model(model_card(name))
        card = remote.card
        use = "commercial use allowed" if card.commercial else "NO commercial use"
        session.print(f"{card.name}: licence {card.licence}, {use}; {remote.size / 1e6:,.0f} MB")
        session.print(f"from https://huggingface.co/{card.repository}/tree/{remote.revision}")
        session.flush()
        with session.progress() as progress:
            folder = fetch_model(remote, progress=progress)
        record = {
            "name": card.name,
            "licence": card.licence,
            "commercial": card.commercial,
            "revision": remote.revision,
            "folder": str(folder),
            "sha256": {file.name: file.checksum for file in remote.files if file.kind == "sha256"},
        }
        session.result(record)
        session.print(f"{folder}: complete, checksums agree; use it with --model {card.name}")

    def _convert(self, source: str, session: Session) -> None:
        if self.output is None:
            raise InputError("models convert needs -o FILE.safetensors, the file to write")
        import torch

        from da3gs.checkpoints.pickled import convert_checkpoint

        dtype = None if self.dtype == "same" else getattr(torch, self.dtype)
        record = convert_checkpoint(source, self.output, dtype=dtype, overwrite=self.overwrite)
        session.result(record)
        session.print(f"{self.output}: {record['name']} ({record['licence']}), {record['megabytes']:,} MB")

    def _export(self, source: str, session: Session) -> None:
        if self.output is None:
            raise InputError("models export needs -o FILE.onnx, the file to write")
        from da3gs.checkpoints.onnx import check_onnx_output, export_onnx
        from da3gs.pipeline.model_loading import loaded_model
        from da3gs.pipeline.settings import Settings

        check_onnx_output(Path(self.output), overwrite=self.overwrite)
        ready = loaded_model(source, Settings(device="cpu", dtype="float32"))
        card = ready.card
        width, height = self._pixels(card.resolution)
        record = export_onnx(
            ready.network, self.output, views=self.count, height=height, width=width, overwrite=self.overwrite
        )
        session.result({"output": self.output, "name": card.name, "licence": card.licence, **record})
        session.print(f"{self.output}: {card.name} ({card.licence}), {record['megabytes']:,} MB")

    def _pixels(self, long_side: int) -> tuple[int, int]:
        """Width and height of what an exported network sees."""
        if self.size is None:
            return long_side // 14 * 14, round(long_side * 0.75 / 14) * 14
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", self.size)
        if found is None:
            raise InputError(f"--size is WIDTHxHEIGHT in pixels, got {self.size!r}")
        return int(found[1]), int(found[2])

    def _verify(self, source: str, session: Session) -> None:
        from da3gs.checkpoints.load import weights_of
        from da3gs.checkpoints.pickled import verify_checkpoint
        from da3gs.checkpoints.zoo import MODELS

        path: str | Path = source
        if not Path(source).exists() and source.lower() in MODELS:
            path = weights_of(MODELS[source.lower()])
        record = verify_checkpoint(path)
        session.result(record)
        session.print(f"{source}: complete; {record['tensors']} tensors, all finite")
        official = {True: "the official file", False: "not the official file", None: "no official checksum known"}
        session.print(f"  model    {record['name']} ({record['licence']}), {record['parameters']:,} parameters")
        for file, checksum in record["sha256"].items():
            session.print(f"  sha256   {checksum}  {file}")
        session.print(f"  origin   {official[record['official']]}")


def _names() -> list[str]:
    from da3gs.checkpoints.zoo import MODELS

    return list(MODELS)


def _print_record(record: dict[str, Any], session: Session) -> None:
    session.result(record)
    for key, value in record.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        session.print(f"{key:<12} {', '.join(value) if isinstance(value, list) else value}")


def card_record(card: ModelCard) -> dict[str, Any]:
    """A card as JSON holds it, with whether its weights are on this machine."""
    from da3gs.checkpoints.download import cached_folder

    return {
        "name": card.name,
        "about": card.about,
        "licence": card.licence,
        "commercial": card.commercial,
        "parameters": card.parameters,
        "megabytes": card.megabytes,
        "heads": list(card.heads),
        "resolution": card.resolution,
        "views": card.views,
        "here": card.bundled or cached_folder(card) is not None,
        "source": "comes with da3gs" if card.bundled else f"huggingface.co/{card.repository}",
        "revision": card.revision,
    }


def table(records: list[dict[str, Any]]) -> list[str]:
    """One line a model, under a line of headings."""
    rows = [("NAME", "SIZE", "DOWNLOAD", "LICENCE", "COMMERCIAL", "HERE", "LONG SIDE", "VIEWS", "PREDICTS")]
    for record in records:
        rows.append(
            (
                record["name"],
                f"{record['parameters'] / 1e6:.0f} M",
                f"{record['megabytes']:,} MB",
                record["licence"],
                "yes" if record["commercial"] else "no",
                "yes" if record["here"] else "no",
                str(record["resolution"]),
                str(record["views"]),
                ", ".join(record["heads"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


COMMAND = Models
