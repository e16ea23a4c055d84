"""Broken and hostile weights: for `models convert`, `models verify` and `reconstruct --model`."""

from __future__ import annotations

import functools
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.hostile.case import Case

Prepare = Callable[[Path], object]


def case(name: str, words: str, prepare: Prepare, expect: str) -> Case:
    """A command in a folder with a photo and whatever ``prepare`` makes."""

    def build(folder: Path) -> list[str]:
        (folder / "photos").mkdir()
        Image.linear_gradient("L").convert("RGB").save(folder / "photos" / "a.png")
        prepare(folder)
        return words.split()

    return Case(name, build, expect)


def content(name: str, data: bytes) -> Prepare:
    """A file."""

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return prepare


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file with any header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], data: bytes, kind: str = "F32") -> bytes:
    """A .safetensors file with one tensor of this stated shape."""
    return safetensors({"a": {"dtype": kind, "shape": shape, "data_offsets": [0, len(data)]}}, data)


@functools.cache
def own_config() -> dict[str, object]:
    """A sound configuration, as our own files tell it."""
    from da3gs.network.config import CONFIGS, config_to_dict

    return json.loads(json.dumps(config_to_dict(CONFIGS["da3gs-nano"])))  # type: ignore[no-any-return]


def own(**backbone: object) -> Prepare:
    """A file of ours with a hostile configuration."""

    def prepare(folder: Path) -> None:
        config = own_config()
        config = {**config, "backbone": {**config["backbone"], **backbone}}  # type: ignore[dict-item]
        metadata = {"format": "da3gs-1", "config": json.dumps(config)}
        data = {"__metadata__": metadata, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        (folder / "m.safetensors").write_bytes(safetensors(data, bytes(4)))

    return prepare


class Writes:
    """Makes a file in the working folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        """Told to pickle."""
        return os.system, ("echo pwned > pwned",)


def pickled(name: str) -> Prepare:
    """A pickle that runs a command."""
    return content(name, pickle.dumps({"state_dict": Writes()}))


def torch_pickled(name: str) -> Prepare:
    """The same in torch's zip format."""

    def prepare(folder: Path) -> None:
        import torch

        torch.save({"a": torch.zeros(2), "hook": Writes()}, folder / name)

    return prepare


def torch_plain(name: str) -> Prepare:
    """Harmless weights of no model."""

    def prepare(folder: Path) -> None:
        import torch

        torch.save({"a": torch.zeros(2)}, folder / name)

    return prepare


def official(config: str, index: str | None = None) -> Prepare:
    """A folder ``m`` in the official layout with one tensor."""

    def prepare(folder: Path) -> None:
        content("m/model.safetensors", tensor([1], bytes(4)))(folder)
        content("m/config.json", config.encode())(folder)
        if index is not None:
            content("m/model.safetensors.index.json", index.encode())(folder)

    return prepare


def pipe(folder: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(folder / "m.safetensors")


def both(*steps: Prepare) -> Prepare:
    """One after the other."""

    def prepare(folder: Path) -> None:
        for step in steps:
            step(folder)

    return prepare


VERIFY, CONVERT, USE = (
    "models verify m.safetensors",
    "models convert m.pt -o out.safetensors",
    "reconstruct photos -o s --model",
)
SMALL = '{"model_name": "da3-small"}'

CASES = [
    case("verify-missing", VERIFY, lambda folder: None, "m.safetensors does not exist"),
    case("verify-empty", VERIFY, content("m.safetensors", b""), "m.safetensors cannot be read"),
    case("verify-text", VERIFY, content("m.safetensors", b"hello, world"), "m.safetensors cannot be read"),
    case("verify-long-header", VERIFY, content("m.safetensors", safetensors({}, length=2**60)), "cannot be read"),
    case("verify-deep-header", VERIFY, content("m.safetensors", struct.pack("<Q", 9999) + b"[" * 9999), "cannot be"),
    case("verify-huge-tensor", VERIFY, content("m.safetensors", tensor([2**40], bytes(4))), "cannot be read"),
    case("verify-overflow", VERIFY, content("m.safetensors", tensor([2**62, 4], bytes(4))), "cannot be read"),
    case("verify-foreign", VERIFY, content("m.safetensors", tensor([1], bytes(4))), "fits no known model"),
    case("verify-pipe", VERIFY, pipe, "m.safetensors"),
    case("verify-pickle", "models verify m.pt", pickled("m.pt"), "da3gs models convert m.pt"),
    case("verify-empty-folder", "models verify m", lambda folder: (folder / "m").mkdir(), "m holds no model.safetens"),
    case("own-newer", VERIFY, content("m.safetensors", safetensors({"__metadata__": {"format": "da3gs-9"}})), "newer"),
    case("own-no-config", VERIFY, content("m.safetensors", safetensors({"__metadata__": {"format": "da3gs-1"}})), "JS"),
    case("own-a-billion-blocks", VERIFY, own(depth=10**9), "depth is 1000000000"),
    case("own-negative-width", VERIFY, own(width=-64), "width is -64"),
    case("own-text-for-number", VERIFY, own(heads="6"), "heads is '6'"),
    case("own-zero-heads", VERIFY, own(heads=0), "heads is 0"),
    case("own-outputs-beyond", VERIFY, own(out_layers=[5, 7, 9, 4000]), "outputs of blocks"),
    case("own-unknown-field", VERIFY, own(colour=3), "colour"),
    case("own-other-shapes", VERIFY, own(), "does not fit da3gs-nano"),
    case("convert-code", CONVERT, pickled("m.pt"), "may run code"),
    case("convert-code-in-zip", CONVERT, torch_pickled("m.pt"), "may run code"),
    case("convert-foreign", CONVERT, torch_plain("m.pt"), "fits no known model"),
    case("convert-empty", CONVERT, content("m.pt", b""), "m.pt"),
    case("convert-text", CONVERT, content("m.pt", b"hello"), "m.pt"),
    case("convert-cut-zip", CONVERT, content("m.pt", b"PK\x03\x04" + bytes(60)), "m.pt"),
    case("convert-folder-of-pickles", "models convert m -o out.safetensors", pickled("m/a.bin"), "may run code"),
    case(
        "convert-two-pickles",
        "models convert m -o out.safetensors",
        both(pickled("m/a.bin"), pickled("m/b.bin")),
        "name one of them",
    ),
    case("convert-no-output", "models convert m.pt", torch_plain("m.pt"), "needs -o"),
    case("convert-output-suffix", "models convert m.pt -o out.pt", torch_plain("m.pt"), "not named .safetensors"),
    case("convert-onto-itself", "models convert m.pt -o m.pt", torch_plain("m.pt"), "not named .safetensors"),
    case(
        "convert-output-exists",
        CONVERT,
        both(torch_plain("m.pt"), content("out.safetensors", b"mine")),
        "out.safetensors exists already",
    ),
    case("download-unknown", "models download nobody", lambda folder: None, "no model 'nobody'"),
    case("download-bundled", "models download da3gs-nano", lambda folder: None, "comes with da3gs"),
    case("download-nothing", "models download", lambda folder: None, "needs a NAME"),
    case("use-pickle", f"{USE} m.pth", pickled("m.pth"), "da3gs models convert m.pth"),
    case("use-folder-of-pickles", f"{USE} m", pickled("m/pytorch_model.bin"), "da3gs models convert pytorch_model.bin"),
    case("use-config-broken", f"{USE} m", official("{"), "config.json holds broken JSON"),
    case("use-config-deep", f"{USE} m", official("[" * 100_000), "config.json holds broken JSON"),
    case("use-config-list", f"{USE} m", official("[]"), "config.json holds list"),
    case("use-config-unknown", f"{USE} m", official('{"model_name": "da4"}'), "da4"),
    case("use-config-nameless", f"{USE} m", official("{}"), "None"),
    case("use-other-weights", f"{USE} m", official(SMALL), "unknown parameters: a"),
    case("use-index-broken", f"{USE} m", official(SMALL, "{}"), "no valid weight_map"),
    case(
        "use-index-climbs", f"{USE} m", official(SMALL, '{"weight_map": {"a": "../m.safetensors"}}'), "valid weight_map"
    ),
    case("use-index-number", f"{USE} m", official(SMALL, '{"weight_map": {"a": 7}}'), "no valid weight_map"),
    case(
        "use-shard-missing", f"{USE} m", official(SMALL, '{"weight_map": {"a": "b.safetensors"}}'), "b.safetensors is"
    ),
    case(
        "metres-unknown", "reconstruct photos --metric on -o s", lambda folder: None, "does not know metres; use --mod"
    ),
    case("metres-unknown-dry", "reconstruct photos --metric on --dry-run", lambda folder: None, "does not know metres"),
]
