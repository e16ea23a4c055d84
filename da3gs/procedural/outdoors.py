"""Further kinds of scenes: open land under a true sky, thin structures, and glossy things without texture."""

from __future__ import annotations

import math

import numpy as np

from da3gs.procedural.solids import BALL, BOX, CYLINDER, Builder, ProceduralScene, turned

SKY_RADIUS = 1e3
"""Solids that are larger are the sky: they have colour, and no depth."""


def terrain(b: Builder) -> ProceduralScene:
    """Hills, rocks, trees, huts and a fence under an endless sky."""
    g = b.generator
    far = g.uniform(25, 80)
    b.at(0, 0)
    blue = g.uniform(0.35, 1.0) * np.array([0.62, 0.78, 1.0]) ** g.uniform(0.3, 1.6)
    sky = b.material("plain", "fractal", fit=True, glow=g.uniform(0.8, 1.4), tone=np.sqrt(blue))
    b.add(BALL, (0, 0, 0), (2e3, 2e3, 2e3), sky, inward=True)
    grass = b.material("speckle", "leaves", "fractal", "pebbles", repeat=g.uniform(0.1, 0.5))
    b.add(BOX, (0, 0, -2), (4 * far, 4 * far, 2), grass)
    for _ in range(int(g.integers(5, 14))):  # hills: flat balls that are mostly under the ground
        a, d = g.uniform(0, 2 * math.pi), far * g.uniform(0.25, 1.6)
        wide = far * g.uniform(0.15, 0.6)
        b.at(d * math.cos(a), d * math.sin(a), 0, g.uniform(0, math.pi))
        cover = grass if g.random() < 0.6 else b.material("speckle", "fractal", repeat=g.uniform(0.1, 0.5))
        high = wide * g.uniform(0.15, 0.7)
        b.add(BALL, (0, 0, -0.3 * high), (wide, wide * g.uniform(0.5, 1.2), high), cover)
    for _ in range(int(g.integers(3, 12))):
        _tree(b, far * g.uniform(0.06, 0.5), g.uniform(1.5, 6))
    for _ in range(int(g.integers(2, 12))):
        a, d, r = g.uniform(0, 2 * math.pi), far * g.uniform(0.02, 0.35), g.uniform(0.15, 1.2)
        b.at(d * math.cos(a), d * math.sin(a), 0, g.uniform(0, math.pi))
        stone = b.material("speckle", "fractal", "pebbles", repeat=g.uniform(0.5, 2))
        b.add(BALL, (0, 0, 0.3 * r), r * g.uniform(0.5, 1.1, 3), stone, turn=turned(0, g.normal(0, 0.4)))
    for _ in range(int(g.integers(0, 4))):
        a, d = g.uniform(0, 2 * math.pi), far * g.uniform(0.12, 0.5)
        b.at(d * math.cos(a), d * math.sin(a), 0, g.uniform(0, math.pi))
        half = g.uniform(1, 4, 3)
        wall, roof = b.material("bricks", "planks", "plain", repeat=0.5), b.material("planks", "bricks", repeat=0.7)
        b.add(BOX, (0, 0, half[2]), half, wall)
        slope = turned(0, 0, g.uniform(0.4, 0.8))
        for side in (-1, 1):
            place = (0, side * half[1] * 0.5, 2 * half[2] + 0.25 * half[1])
            lean = slope if side < 0 else slope.T
            b.add(BOX, place, (half[0] * 1.1, half[1] * 0.75, 0.08), roof, turn=lean)
    b.at(g.normal(0, 1), g.normal(0, 1), 0, g.uniform(0, 2 * math.pi))
    fence(b, g.uniform(2, 6))
    b.look_here((0, 0, 0.8), g.uniform(1.5, 5))
    b.look_here((g.normal(0, 3), g.normal(0, 3), 1.0), g.uniform(2, 8))
    _sun(b)
    up = g.uniform(0.35, 0.7) * np.array([0.92, 1.0, 1.1])
    return b.finish(np.stack((up, up * 0.5)), 0.0, np.array([[-far, -far, 0.3], [far, far, far * 0.3]]))


def _tree(b: Builder, away: float, tall: float) -> None:
    g = b.generator
    a = g.uniform(0, 2 * math.pi)
    b.at(away * math.cos(a), away * math.sin(a))
    trunk, crown = b.material("wood", "fractal"), b.material("leaves", "speckle", "fractal")
    b.add(CYLINDER, (0, 0, tall * 0.3), (0.04 * tall, 0.04 * tall, tall * 0.3), trunk)
    for _ in range(int(g.integers(2, 7))):
        place = (g.normal(0, 0.15) * tall, g.normal(0, 0.15) * tall, tall * g.uniform(0.5, 0.95))
        b.add(BALL, place, tall * g.uniform(0.1, 0.25, 3), crown)


def fence(b: Builder, long: float) -> None:
    """Posts and rails along the group's x axis."""
    g = b.generator
    wood = b.material("wood", "plain", "planks")
    posts, high = int(g.integers(3, 8)), g.uniform(0.7, 1.4)
    for k in range(posts):
        x = long * (k / (posts - 1) - 0.5)
        b.add(CYLINDER, (x, 0, high / 2), (0.03, 0.03, high / 2), wood)
    for level in np.linspace(0.3, 0.95, int(g.integers(1, 4))):
        b.add(BOX, (0, 0, high * level), (long / 2, 0.012, 0.02), wood)


def _sun(b: Builder) -> None:
    g = b.generator
    high, aim = g.uniform(0.3, 1.2), g.uniform(0, 2 * math.pi)
    sun = 200 * np.array([math.cos(aim) * math.cos(high), math.sin(aim) * math.cos(high), math.sin(high)])
    b.lamp(sun, g.uniform(0.6, 1.6) * np.array([1.05, 1.0, 0.92]), 2.0, 1e5)


def _plain_room(b: Builder, *, textured: bool) -> tuple[np.ndarray, np.ndarray]:
    """Walls with one lamp or two; returns the room's least and greatest coordinates, and its ambient light."""
    g = b.generator
    size = np.array([g.uniform(2.5, 5), g.uniform(2.5, 5), g.uniform(2.2, 3)])
    kinds = ("plain", "wood", "bricks", "fractal", "weave") if textured else ("plain",)
    b.at(0, 0, size[2] / 2)
    wall, floor = b.material(*kinds, repeat=0.6, lift=0.1), b.material(*kinds, repeat=0.6)
    b.add(BOX, (0, 0, 0), size / 2, [wall] * 5 + [floor], inward=True)
    b.at(0, 0)
    for _ in range(int(g.integers(1, 3))):
        place = size * np.array([g.uniform(-0.4, 0.4), g.uniform(-0.4, 0.4), 0.9])
        b.lamp(place, np.full(3, g.uniform(0.7, 1.6)), g.uniform(0.01, 0.1), 3.0)
    room = np.array([[-size[0] / 2, -size[1] / 2, 0], [size[0] / 2, size[1] / 2, size[2]]])
    ambient = np.full((2, 3), g.uniform(0.2, 0.45))
    return room, ambient


def wires(b: Builder) -> ProceduralScene:
    """Thin things before a background: railings, ladders, stands, twigs, hanging cords."""
    g = b.generator
    room, ambient = _plain_room(b, textured=True)
    for _ in range(int(g.integers(2, 6))):
        x, y = g.uniform(-0.3, 0.3, 2) * (room[1] - room[0])[:2]
        b.at(x, y, 0, g.uniform(0, math.pi))
        stuff, r, high = b.material("plain", "wood", "speckle"), g.uniform(0.004, 0.02), g.uniform(0.5, 1.6)
        match int(g.integers(4)):
            case 0:
                fence(b, g.uniform(0.6, 1.6))
            case 1:  # ladder
                wide = g.uniform(0.15, 0.3)
                for side in (-wide, wide):
                    b.add(CYLINDER, (side, 0, high / 2), (r, r, high / 2), stuff)
                for z in np.arange(0.15, high, 0.22):
                    b.add(CYLINDER, (0, 0, z), (r, r, wide), stuff, turn=turned(0, math.pi / 2))
            case 2:  # twigs
                for _ in range(int(g.integers(4, 12))):
                    lean = turned(g.uniform(0, 2 * math.pi), g.uniform(0.1, 0.9))
                    place = lean @ np.array([0, 0, high / 2])
                    b.add(CYLINDER, place, (r, r, high / 2), stuff, turn=lean)
            case _:  # cords from the ceiling, with something at the end
                for _ in range(int(g.integers(1, 5))):
                    u, v, low = g.normal(0, 0.3), g.normal(0, 0.3), g.uniform(0.6, 1.6)
                    top = room[1, 2]
                    b.add(CYLINDER, (u, v, (top + low) / 2), (r, r, (top - low) / 2), stuff)
                    b.add(BALL, (u, v, low), g.uniform(0.04, 0.15, 3), b.material())
        b.look_here((0, 0, high / 2), high / 2)
    return b.finish(ambient, 0.3, room)


def studio(b: Builder) -> ProceduralScene:
    """Glossy and plain things in a plain room: little to match, highlights that move with the camera."""
    g = b.generator
    room, ambient = _plain_room(b, textured=False)
    b.at(g.normal(0, 0.2), g.normal(0, 0.2), 0, g.uniform(0, math.pi))
    high = g.uniform(0.0, 0.8)
    if high > 0.2:
        b.add(BOX, (0, 0, high / 2), (0.6, 0.45, high / 2), b.material("plain", "wood"), gloss=0.3)
    else:
        high = 0.0
    for _ in range(int(g.integers(3, 11))):
        x, y, size = g.uniform(-0.5, 0.5), g.uniform(-0.35, 0.35), g.uniform(0.05, 0.2)
        paint, gloss = b.material("plain"), float(g.choice([0.2, 0.6, 1.2]))
        shape = (BOX, BALL, CYLINDER)[int(g.integers(3))]
        half = size * g.uniform(0.5, 1.2, 3)
        if shape == CYLINDER:
            half[1] = half[0]
        b.add(shape, (x, y, high + half[2]), half, paint, turn=turned(g.uniform(0, math.pi)), gloss=gloss)
    b.look_here((0, 0, high + 0.1), 0.6)
    return b.finish(ambient, 0.3, room)
