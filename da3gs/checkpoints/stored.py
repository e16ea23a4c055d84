"""Tensors in .safetensors files, read when they are asked for.

Their names and shapes come from the headers alone, so that what does not fit is refused before any of it is read.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from torch import Tensor

from da3gs.checkpoints.quantised import SCALES, dequantised
from da3gs.errors import CheckpointError

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
"""Suffixes of files that can run code when they are read."""


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of one or several files by name, as views of mapped files.

    Pages become resident when they are read. Each access maps the file afresh, so that they go when nothing refers to
    the tensor any more; within ``together`` all tensors of a file share one mapping, which takes the least where all of
    them are kept.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the headers.

        Raises:
            CheckpointError: a file is missing, or not a readable .safetensors file.
        """
        self.metadata: dict[str, str] = {}
        """What the last file tells about itself."""
        self._files: dict[str, tuple[Path, str]] = {}
        self._scales: dict[str, tuple[Path, str]] = {}
        self._shared: dict[Path, Any] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shape by name."""
        for path in files:
            self._add(path)

    def _add(self, path: Path) -> None:
        refuse_pickled(path)
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path.name} is not a .safetensors file; weights are read from those only")
        if not path.is_file():
            raise CheckpointError(f"{path.name} is missing; download the folder again")
        with _explained(path), safe_open(path, framework="pt", device="cpu") as file:
            self.metadata = dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118  (it is no dictionary)
                self._files[name] = (path, name)
                self.shapes[name] = tuple(file.get_slice(name).get_shape())
        for name in [name for name in self._files if name.endswith(SCALES)]:
            matrix, groups = name.removesuffix(SCALES), self.shapes.pop(name)
            rows = self.shapes.get(matrix, ())
            if len(groups) != 2 or not groups[1] or rows[:1] != groups[:1] or math.prod(rows[1:]) % groups[1]:
                raise CheckpointError(f"{path.name}: {name[:80]} does not fit its matrix; get the file again")
            self._scales[matrix] = self._files.pop(name)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, mapped; of a matrix in int8, what it stands for."""
        value = self._stored(*self._files[name])
        if name in self._scales:
            return dequantised(value, self._stored(*self._scales[name]))
        return value

    def _stored(self, path: Path, stored: str) -> Tensor:
        with _explained(path):
            if self._shared is None:
                with safe_open(path, framework="pt", device="cpu") as file:
                    return cast(Tensor, file.get_tensor(stored))
            if path not in self._shared:
                self._shared[path] = safe_open(path, framework="pt", device="cpu").__enter__()
            return cast(Tensor, self._shared[path].get_tensor(stored))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Inside the block each file is mapped once."""
        self._shared = {}
        try:
            yield
        finally:
            for file in self._shared.values():
                file.__exit__(None, None, None)
            self._shared = None

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._files)

    def __len__(self) -> int:
        """How many tensors."""
        return len(self._files)

    def renamed(self, name: Callable[[str], str | None]) -> StoredTensors:
        """The same tensors under other names; those for which there is none are left out."""
        other = StoredTensors(())
        other.metadata = self.metadata
        for old, stored in self._files.items():
            if (new := name(old)) is not None:
                other._files[new], other.shapes[new] = stored, self.shapes[old]
                if old in self._scales:
                    other._scales[new] = self._scales[old]
        return other


class _explained:
    """Errors of the safetensors library as one line of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SafetensorError | OSError | ValueError):
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{self.path.name} cannot be read ({line}); download or convert it again") from error


def folder_files(folder: Path) -> list[Path]:
    """The weight files of a folder in the Hugging Face layout: one, or the shards that its index names.

    Raises:
        CheckpointError: there are none, or the index is broken.
    """
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        shards = load_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) and s == Path(s).name for s in shards.values()):
            raise CheckpointError(f"{index.name} has no valid weight_map; download the folder again")
        return [folder / shard for shard in sorted(set(shards.values()))]
    if whole.is_file():
        return [whole]
    for file in sorted(folder.iterdir()):
        refuse_pickled(file)
    raise CheckpointError(
        f"{folder.name or folder} holds no model.safetensors; pass a folder in the Hugging Face layout"
    )


def refuse_pickled(path: Path) -> None:
    """Refuse a pickled file, naming the command that converts it.

    Raises:
        CheckpointError: it is one, by its suffix.
    """
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"{path.name} is a pickled file, which may run code when read; convert it safely with: "
            f"da3gs models convert {path.name} -o {path.stem}.safetensors"
        )


def load_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        CheckpointError: it holds something else.
    """
    try:
        return json_object(path.read_text(encoding="utf-8-sig"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} cannot be read; download it again") from error


def json_object(text: str, name: str) -> dict[str, Any]:
    """The object in a piece of JSON.

    Raises:
        CheckpointError: it is something else.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} holds broken JSON ({error}); download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{name} holds {type(values).__name__} where an object is expected; download it again")
    return values
