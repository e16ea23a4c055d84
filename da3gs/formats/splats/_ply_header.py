"""Header of a PLY file: elements, properties, comments."""

from __future__ import annotations

import dataclasses
from typing import BinaryIO

import numpy as np

from da3gs.errors import InputError

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_HEADER_LIMIT = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlyElement:
    """One element of a PLY header."""

    name: str
    """``vertex``, ``chunk`` and the like."""
    count: int
    """How many rows."""
    properties: tuple[tuple[str, str], ...]
    """(name, numpy type without byte order) of each property; the type of a list property is ``list``."""

    def dtype(self, order: str) -> np.dtype:
        """The numpy type of a row, ``order`` being ``<`` or ``>``; only for elements without lists."""
        return np.dtype([(name, order + kind) for name, kind in self.properties])

    @property
    def has_lists(self) -> bool:
        """Whether rows may differ in length."""
        return any(kind == "list" for _, kind in self.properties)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlyHeader:
    """Header of a PLY file."""

    format: str
    """``ascii``, ``binary_little_endian`` or ``binary_big_endian``."""
    comments: tuple[str, ...]
    """The comment lines, without the word itself."""
    elements: tuple[PlyElement, ...]
    """In the order of the file."""
    size: int
    """Bytes of the header; the data begin here."""

    def element(self, name: str) -> PlyElement | None:
        """The element of this name, or None."""
        return next((element for element in self.elements if element.name == name), None)

    @property
    def order(self) -> str:
        """Numpy's sign of the byte order."""
        return ">" if self.format == "binary_big_endian" else "<"


def read_header(file: BinaryIO, name: str) -> PlyHeader:
    """Parse the header at the start of an open file, ``name`` being what messages call it.

    Raises:
        InputError: it is not a PLY header, or a malformed one.
    """
    file.seek(0)
    start = file.read(_HEADER_LIMIT)
    if not start.startswith((b"ply\n", b"ply\r")):
        raise InputError(f"{name} is not a PLY file: it does not begin with 'ply'")
    end = start.find(b"\nend_header")
    stop = start.find(b"\n", end + 1)
    if end < 0 or stop < 0:
        raise InputError(f"{name} is not a PLY file: its header has no end_header line; the file may be cut short")
    return _parsed(start[: end + 1].decode("ascii", "replace").splitlines()[1:], stop + 1, name)


def _parsed(lines: list[str], size: int, name: str) -> PlyHeader:
    form, comments = "", []
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in lines:
        match line.split():
            case ["format", ("ascii" | "binary_little_endian" | "binary_big_endian") as form, "1.0"]:
                pass
            case ["comment" | "obj_info", *_]:
                comments.append(line.partition(" ")[2].strip())
            case ["element", element, count] if count.isascii() and count.isdecimal() and len(count) < 16:
                elements.append((element, int(count), []))
            case ["property", "list", counts, items, prop] if elements and {counts, items} <= _TYPES.keys():
                elements[-1][2].append((prop, "list"))
            case ["property", kind, prop] if elements and kind in _TYPES:
                elements[-1][2].append((prop, _TYPES[kind]))
            case []:
                pass
            case _:
                raise InputError(f"{name} has a PLY header line that makes no sense: {line[:80]!r}")
    if not form:
        raise InputError(f"{name} has a PLY header without a format line")
    for element, _, properties in elements:
        if len({prop for prop, _ in properties}) < len(properties):
            raise InputError(f"{name} names a property of its PLY element {element!r} twice")
    return PlyHeader(
        format=form,
        comments=tuple(comments),
        elements=tuple(PlyElement(name=n, count=c, properties=tuple(p)) for n, c, p in elements),
        size=size,
    )
