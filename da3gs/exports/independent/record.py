"""Decoded splats: the record that every independent decoder fills."""

from __future__ import annotations

import dataclasses

import numpy as np

POLYNOMIALS = ("", "y", "z", "x", "xy", "yz", "zz", "xz", "xx", "yxx", "xyz", "yzz", "zzz", "xzz", "zxx", "xxx")
"""A term of each harmonic: how often a letter occurs in it is even or odd in all of its terms."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DecodedSplats:
    """Splats as a reader of the format understands them, activated, float32, in the axes of the file."""

    kind: str
    """``.ply`` and so on."""
    means: np.ndarray
    scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray
    nonfinite: int
    """How many numbers are not finite."""
    axes: str = "RDF"
    """Directions of x, y and z; always right-handed."""
    reason: str = "the axes that this format is written in"
    """Why they are taken to be these."""
    antialiased: bool = False
    """Whether the file says that its splats are for a renderer that compensates for its blur."""
    statements: tuple[str, ...] = ()
    """What else the file says of its world, in its own words."""

    @property
    def offset(self) -> np.ndarray | None:
        """Offset to add to ``means`` to get the caller's, float64; None where the file does not say."""
        for kind, _, numbers in (said.replace(":", " ").partition(" ") for said in self.statements):
            if kind.lower() == "offset" and len(numbers.split()) == 3:
                return np.array([float(number) for number in numbers.split()])
        return None

    @staticmethod
    def of(
        kind: str,
        harmonics: np.ndarray,
        *,
        means: np.ndarray,
        scales: np.ndarray,
        quaternions: np.ndarray,
        opacities: np.ndarray,
        axes: str = "RDF",
        reason: str = "the axes that this format is written in",
        antialiased: bool = False,
        statements: tuple[str, ...] = (),
    ) -> DecodedSplats:
        """A record of arrays of any type; left-handed axes are mirrored in x."""
        fields = {"means": means, "scales": scales, "quaternions": quaternions, "opacities": opacities}
        arrays = {
            name: np.require(field, np.float32, "W") for name, field in {**fields, "harmonics": harmonics}.items()
        }
        if left_handed(axes):
            axes = ("R" if axes[0] == "L" else "L") + axes[1:]
            arrays["means"] = arrays["means"] * np.array([-1, 1, 1], np.float32)
            arrays["quaternions"] = arrays["quaternions"] * np.array([1, 1, -1, -1], np.float32)
            arrays["harmonics"] = _mirrored_in_x(arrays["harmonics"])
        return DecodedSplats(
            kind=kind,
            means=arrays["means"],
            scales=arrays["scales"],
            quaternions=arrays["quaternions"],
            opacities=arrays["opacities"],
            harmonics=arrays["harmonics"],
            nonfinite=sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays.values()),
            axes=axes,
            reason=reason,
            antialiased=antialiased,
            statements=statements,
        )


def left_handed(axes: str) -> bool:
    """Whether x to the right, y downward and z forward become their mirror image in these axes."""
    turns = sum(letter in "LUB" for letter in axes) + (axes[1] in "FB")
    return turns % 2 == 1


def _mirrored_in_x(harmonics: np.ndarray) -> np.ndarray:
    """Harmonics after x changed its sign: the odd powers of x."""
    signs = [(-1) ** name.count("x") for name in POLYNOMIALS[: harmonics.shape[1]]]
    mirrored: np.ndarray = harmonics * np.array(signs, np.float32)[:, None]
    return mirrored
