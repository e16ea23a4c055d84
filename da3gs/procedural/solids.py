"""The parts of a procedural scene: solids with materials, lamps, and the arrays that the ray caster reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3gs.procedural._raycast import BALL, BOX, CYLINDER
from da3gs.procedural.textures import TextureBank

Number = float | int
Vector = Sequence[Number] | NDArray[np.floating]
"""Three numbers."""

__all__ = ["BALL", "BOX", "CYLINDER", "Builder", "ProceduralScene"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProceduralScene:
    """Solids, their materials and the light on them; metres, z up."""

    kinds: NDArray[np.int32]
    inward: NDArray[np.bool_]
    """Seen from inside: rooms and the dome of the sky."""
    frames: NDArray[np.float64]
    """[solids, 3, 3]: from the world to the unit solid."""
    centers: NDArray[np.float64]
    radii: NDArray[np.float64]
    """Of the balls round the solids."""
    corners: NDArray[np.float64]
    """[solids, 8, 3]: of the boxes round the solids."""
    halves: NDArray[np.float64]
    gloss: NDArray[np.float64]
    faces: NDArray[np.int32]
    """[solids, 6]: a material a face."""
    materials: NDArray[np.float64]
    """[materials, 7]: texture, repeats in u and v, whether these are per face (1) or per metre (0), offset, glow."""
    mixes: NDArray[np.float64]
    """[materials, 3, 4]: colour = mix @ (texture, 1)."""
    lights: NDArray[np.float64]
    """[lamps, 8]: position, colour, radius, distance at which the light has fallen to a half."""
    ambient: NDArray[np.float64]
    """[2, 3]: light from above and from below."""
    corner_shade: float
    """How much darker a room is in its corners."""
    focus: NDArray[np.float64]
    """[points, 4]: what is worth looking at: a point and the size of what is there."""
    room: NDArray[np.float64]
    """[2, 3]: the least and the greatest coordinates where a camera may stand."""


class Builder:
    """Collects solids; positions go through a group's frame, so that furniture is written once and turned at will."""

    def __init__(self, generator: np.random.Generator, bank: TextureBank) -> None:
        self.generator = generator
        self.bank = bank
        self._solids: list[tuple[int, bool, NDArray, NDArray, NDArray, Sequence[int], float]] = []
        self._materials: list[list[float]] = []
        self._mixes: list[NDArray] = []
        self._origin = np.zeros(3)
        self._turn = np.eye(3)
        self.focus: list[tuple[float, float, float, float]] = []
        self.lights: list[list[float]] = []

    def at(self, x: Number, y: Number, z: Number = 0.0, yaw: Number = 0.0) -> None:
        """Start a group: what is added next stands at this place, turned by ``yaw`` about the vertical."""
        self._origin = np.array([x, y, z])
        self._turn = turned(yaw)

    def material(
        self, *kinds: str, repeat: Number | None = None, fit: bool = False, glow: float = 0.0, lift: float = 0.0,
        tone: Vector | None = None,
    ) -> int:  # fmt: skip
        """A new material with a texture of one of these kinds (any when none is named).

        It is recoloured at random, or takes the colour ``tone`` and keeps only the texture's light and dark.
        """
        g = self.generator
        choices = self.bank.of_kind(*kinds) if kinds else range(len(self.bank.kinds))
        texture = choices[int(g.integers(len(choices)))]
        if repeat is None:
            repeat = 1.0 if fit else 2 ** g.uniform(-1.5, 2.5)
        self._materials.append([texture, repeat, repeat, float(fit), g.random(), g.random(), glow])
        gray = np.full((3, 3), 1 / 3)
        if tone is not None:
            start = self.bank.level_starts[-1]
            mean = max(0.05, float(self.bank.atlas[texture, start:].mean()) / 255)
            self._mixes.append(np.concatenate((np.asarray(tone, float)[:, None] * gray / mean, np.zeros((3, 1))), 1))
            return len(self._materials) - 1
        saturation = g.uniform(0.25, 1.15)
        tint = np.diag(np.clip(g.normal(1.0, 0.12, 3), 0.6, 1.4))
        contrast = g.uniform(0.65, 1.15)
        matrix = contrast * tint @ (saturation * np.eye(3) + (1 - saturation) * gray)
        if g.random() < 0.3:
            matrix = matrix[:, g.permutation(3)]
        offset = (1 - contrast) * 0.5 + g.normal(0, 0.06) + lift
        self._mixes.append(np.concatenate((matrix, np.full((3, 1), offset)), 1))
        return len(self._materials) - 1

    def add(
        self, kind: int, center: Vector, half: Vector, material: int | Sequence[int], *,
        turn: NDArray | None = None, inward: bool = False, gloss: float = 0.0,
    ) -> None:  # fmt: skip
        """Add a solid with these half sizes, turned in its group; one material or one a face (±x, ±y, ±z)."""
        rotation = self._turn if turn is None else self._turn @ turn
        place = self._origin + self._turn @ np.asarray(center, float)
        sides = [material] * 6 if isinstance(material, int) else list(material)
        self._solids.append((kind, inward, place, np.maximum(half, 1e-3), rotation, sides, gloss))

    def look_here(self, center: Vector, size: Number) -> None:
        """Note something worth looking at."""
        x, y, z = self._origin + self._turn @ np.asarray(center, float)
        self.focus.append((float(x), float(y), float(z), size))

    def lamp(self, position: Vector, color: NDArray, radius: Number, reach: Number) -> None:
        """Add a lamp, in world coordinates."""
        self.lights.append([*position, *color, radius, reach])

    def finish(self, ambient: NDArray, corner_shade: float, room: NDArray) -> ProceduralScene:
        """The scene as arrays."""
        kinds, inward, centers, halves, rotations, faces, gloss = zip(*self._solids, strict=True)
        center, half, rotation = np.array(centers), np.array(halves), np.array(rotations)
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
        corners = np.einsum("pij,pkj->pki", rotation, signs[None] * half[:, None]) + center[:, None]
        kind = np.array(kinds, np.int32)
        flat = np.where(kind == CYLINDER, np.hypot(half[:, :2].max(1), half[:, 2]), np.linalg.norm(half, axis=1))
        return ProceduralScene(
            kinds=kind,
            inward=np.array(inward, np.bool_),
            frames=np.ascontiguousarray(rotation.transpose(0, 2, 1) / half[:, :, None]),
            centers=center,
            radii=np.where(kind == BALL, half.max(1), flat),
            corners=corners,
            halves=half,
            gloss=np.array(gloss, float),
            faces=np.array(faces, np.int32),
            materials=np.array(self._materials, float),
            mixes=np.array(self._mixes),
            lights=np.array(self.lights, float).reshape(-1, 8),
            ambient=np.asarray(ambient, float),
            corner_shade=corner_shade,
            focus=np.array(self.focus, float).reshape(-1, 4),
            room=np.asarray(room, float),
        )


def turned(yaw: Number, pitch: Number = 0.0, roll: Number = 0.0) -> NDArray[np.float64]:
    """The rotation by ``roll`` about x, then ``pitch`` about y, then ``yaw`` about z."""
    cz, sz, cy, sy = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cx, sx = math.cos(roll), math.sin(roll)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return about_z @ about_y @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
