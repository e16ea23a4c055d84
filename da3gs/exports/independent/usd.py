"""USD's ParticleField3DGaussianSplat, as da3gs writes it: text, plain or packed."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats

_MOST = 1 << 32  # bytes


def decode(path: Path) -> DecodedSplats:
    """The splats of a file."""
    text = path.read_bytes()
    if text.startswith(b"PK"):
        with zipfile.ZipFile(path) as package:
            first = package.infolist()[0]
            if first.file_size > min(_MOST, 1100 * len(text)):
                raise InputError(f"{path.name} is broken: {first.file_size} bytes in it")
            text = package.read(first)
    if not text.startswith(b"#usda") or b"def ParticleField3DGaussianSplat " not in text:
        raise InputError(
            f"{path.name} holds no text of a ParticleField3DGaussianSplat, the kind of USD that check reads"
        )

    def array(name: bytes, width: int) -> np.ndarray:
        """The rows of an array of tuples."""
        found = re.search(rb"\] " + re.escape(name) + rb" = \[([^\]]*)\]", text)
        if found is None:
            raise InputError(f"{path.name} is broken or cut short: it has no {name.decode()}")
        numbers = found[1].translate(None, b"() ")
        return np.fromstring(numbers.decode("ascii"), np.float64, sep=",").reshape(-1, width)

    said = re.search(rb"sphericalHarmonicsDegree = (\d)\n", text)
    stated = re.search(rb'string axes = "([A-Z]{3})"', text)
    bands = (int(said[1]) + 1) ** 2 if said else 16
    means = array(b"positions", 3)
    return DecodedSplats.of(
        path.suffix.lower(),
        array(b"radiance:sphericalHarmonicsCoefficients", 3).reshape(len(means), bands, 3),
        means=means,
        scales=array(b"scales", 3),
        quaternions=array(b"orientations", 4),
        opacities=array(b"opacities", 1)[:, 0],
        axes=stated[1].decode() if stated else "RUB",
        reason="stated by the file" if stated else "the stage has y up",
    )
