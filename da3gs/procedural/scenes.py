"""Random scenes: furnished rooms, table tops, loose clutter, and yards under a sky."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, assert_never, get_args

import numpy as np

from da3gs.errors import InputError
from da3gs.procedural.outdoors import studio, terrain, wires
from da3gs.procedural.solids import BALL, BOX, CYLINDER, Builder, ProceduralScene, turned
from da3gs.procedural.textures import TextureBank

SceneKind = Literal["room", "table", "clutter", "yard", "terrain", "wires", "studio"]
"""The first four make the default mix; the others have to be asked for."""


def checked_kinds(kinds: Sequence[tuple[str, float]]) -> tuple[tuple[SceneKind, float], ...]:
    """Kinds and how often each, as a config names them.

    Raises:
        InputError: there is no such kind, or no positive share.
    """
    known: dict[str, SceneKind] = {name: name for name in get_args(SceneKind)}
    for name, share in kinds:
        if name not in known or not 0 <= share < math.inf:
            raise InputError(f"scenes: ({name!r}, {share}) is not one of {', '.join(known)} with a share of 0 or more")
    if kinds and not sum(share for _, share in kinds):
        raise InputError("scenes: all shares are 0; give one kind a share above 0")
    return tuple((known[name], share) for name, share in kinds)


def make_scene(generator: np.random.Generator, bank: TextureBank, kind: SceneKind | None = None) -> ProceduralScene:
    """A new scene; the kind is drawn as well when none is named."""
    b = Builder(generator, bank)
    chosen: SceneKind = kind or ("room", "table", "clutter", "yard")[int(generator.choice(4, p=[0.35, 0.3, 0.2, 0.15]))]
    match chosen:
        case "room":
            return _room(b)
        case "table":
            return _table_top(b)
        case "clutter":
            return _clutter(b)
        case "yard":
            return _yard(b)
        case "terrain":
            return terrain(b)
        case "wires":
            return wires(b)
        case "studio":
            return studio(b)
        case _:
            assert_never(chosen)


def _walls(b: Builder, size: np.ndarray) -> None:
    g = b.generator
    wall = b.material("plain", "plain", "fractal", "bricks", "speckle", "weave", repeat=g.uniform(0.25, 1.2), lift=0.1)
    sides = [wall] * 4
    if g.random() < 0.4:
        sides[int(g.integers(4))] = b.material(repeat=g.uniform(0.25, 1.0))
    floor = b.material(
        "planks", "planks", "wood", "bricks", "speckle", "pebbles", "weave", "fractal", repeat=g.uniform(0.3, 1.2)
    )
    ceiling = b.material("plain", "planks", repeat=0.5, lift=0.2)
    half = size / 2
    b.at(0, 0, half[2])
    b.add(BOX, (0, 0, 0), half, [*sides, ceiling, floor], inward=True)
    b.at(0, 0)
    for _ in range(int(g.integers(2, 9))):  # pictures, windows, doors, cupboards on the walls
        axis, sign = int(g.integers(2)), float(g.choice([-1, 1]))
        wide, high = g.uniform(0.15, 0.7), g.uniform(0.15, 0.6)
        middle = np.zeros(3)
        middle[axis] = sign * half[axis]
        middle[1 - axis] = g.uniform(-1, 1) * max(0.1, half[1 - axis] - wide)
        middle[2] = g.uniform(0.9, max(1.0, size[2] - high - 0.1))
        thick = g.choice([0.015, 0.02, 0.04, 0.15])
        extent = np.full(3, thick)
        extent[1 - axis], extent[2] = wide, high
        window = g.random() < 0.25
        surface = b.material("picture", "fractal", fit=True, glow=g.uniform(0.5, 1.5) if window else 0.0)
        frame = b.material("wood", "plain")
        inner = extent * np.where(np.arange(3) == axis, 1.15, 0.9)
        b.add(BOX, middle, extent, frame)
        b.add(BOX, middle, inner, b.material("print", fit=True) if g.random() < 0.2 else surface)
    if g.random() < 0.5:
        rug = b.material("weave", "fractal", "leaves", "picture", fit=True)
        b.at(g.uniform(-1, 1) * half[0] * 0.4, g.uniform(-1, 1) * half[1] * 0.4, 0, g.uniform(0, math.pi))
        b.add(BOX, (0, 0, 0), (g.uniform(0.5, 1.5), g.uniform(0.5, 1.2), 0.012), rug)


def _lit(b: Builder, room: np.ndarray) -> tuple[np.ndarray, float]:
    """Lamps inside a room; returns the ambient light and how dark the corners are."""
    g = b.generator
    span = room[1] - room[0]
    for _ in range(int(g.integers(1, 3))):
        place = room[0] + span * np.array([g.uniform(0.1, 0.9), g.uniform(0.1, 0.9), g.uniform(0.75, 0.98)])
        warm = np.clip(1 + g.normal(0, 0.12) * np.array([1, 0, -1]) + g.normal(0, 0.03, 3), 0.5, 1.5)
        b.lamp(place, g.uniform(0.7, 2.0) * warm, g.uniform(0.01, 0.12), g.uniform(1.0, 4.0) * span.max() / 4)
    up = g.uniform(0.1, 0.5) * np.clip(g.normal(1, 0.06, 3), 0.7, 1.3)
    return np.stack((up, up * g.uniform(0.3, 0.9))), g.uniform(0.1, 0.5)


def _item(b: Builder, x: float, y: float, z: float, size: float) -> None:
    """A thing of about this size that stands at (x, y, z) of the present group."""
    g = b.generator
    gloss = float(g.choice([0, 0, 0.15, 0.5]))
    yaw = turned(g.uniform(0, 2 * math.pi))
    which = int(g.integers(9))
    if which <= 1:  # box: parcel, book standing, radio
        half = size * np.array([g.uniform(0.2, 0.6), g.uniform(0.08, 0.5), g.uniform(0.15, 0.8)])
        one, two = b.material(fit=True), b.material()
        sides = [two, two, one, one, two, two] if g.random() < 0.5 else [one] * 6
        b.add(BOX, (x, y, z + half[2]), half, sides, turn=yaw, gloss=gloss)
    elif which == 2:  # pile of books
        for _ in range(int(g.integers(2, 7))):
            half = size * np.array([g.uniform(0.4, 0.55), g.uniform(0.28, 0.4), g.uniform(0.04, 0.1)])
            page, cover = b.material("plain", "wood", lift=0.1), b.material("print", "picture", "plain", fit=True)
            b.add(
                BOX, (x, y, z + half[2]), half, [page, page, page, cover, cover, cover],
                turn=yaw @ turned(g.normal(0, 0.3)), gloss=gloss,
            )  # fmt: skip
            z += 2 * half[2]
    elif which == 3:  # bottle, can, cup
        r, h = size * g.uniform(0.12, 0.35), size * g.uniform(0.2, 0.6)
        label = b.material(fit=True) if g.random() < 0.6 else b.material()
        b.add(CYLINDER, (x, y, z + h), (r, r, h), label, turn=yaw, gloss=gloss)
        if g.random() < 0.5:
            b.add(CYLINDER, (x, y, z + 2 * h + 0.3 * h), (0.4 * r, 0.4 * r, 0.3 * h), label, turn=yaw, gloss=gloss)
    elif which == 4:  # fruit, ball
        r = size * g.uniform(0.2, 0.5)
        half = r * g.uniform(0.75, 1.0, 3)
        b.add(BALL, (x, y, z + half[2]), half, b.material(), turn=yaw, gloss=gloss)
    elif which == 5:  # banana, hose, bent shapes
        skin, bend, r = b.material("fractal", "plain", "speckle", "wood"), g.uniform(0.2, 0.7), size * 0.13
        steps = int(g.integers(5, 9))
        for k in range(steps):
            a = (k / (steps - 1) - 0.5) * 2.2
            spot = yaw @ np.array([math.sin(a) * size * 0.6, (1 - math.cos(a)) * size * bend, 0])
            thick = r * (0.55 + 0.6 * math.cos(a))
            b.add(
                BALL, (x + spot[0], y + spot[1], z + thick), (size * 0.17, thick, thick), skin,
                turn=yaw @ turned(a * bend * 1.3), gloss=gloss,
            )  # fmt: skip
    elif which == 6:  # figure on a base
        _figure(b, x, y, z, size, yaw)
    elif which == 7:  # plant in a pot
        _plant(b, x, y, z, size)
    else:  # screen or laptop
        body, screen = b.material("plain", "speckle"), b.material("print", "picture", fit=True, glow=g.uniform(0.3, 1))
        wide, high = size * 0.7, size * 0.45
        lean = turned(0, g.uniform(-0.1, 0.4))
        b.add(BOX, (x, y, z + 0.02 * size), (0.3 * size, wide, 0.02 * size), body, turn=yaw)
        back = yaw @ np.array([0.3 * size, 0, high])
        b.add(
            BOX, (x + back[0], y + back[1], z + back[2]), (0.02 * size, wide, high),
            [body, screen, body, body, body, body], turn=yaw @ lean, gloss=gloss,
        )  # fmt: skip


def _figure(b: Builder, x: float, y: float, z: float, size: float, yaw: np.ndarray) -> None:
    g = b.generator
    stone = b.material("fractal", "speckle", "wood", "plain", "leaves", repeat=g.uniform(1, 4) / size)
    base = 0.12 * size
    b.add(BOX if g.random() < 0.5 else CYLINDER, (x, y, z + base), (0.4 * size, 0.35 * size, base), stone, turn=yaw)
    z += 2 * base
    for k in range(int(g.integers(2, 6))):
        half = size * np.array([g.uniform(0.12, 0.4), g.uniform(0.12, 0.35), g.uniform(0.1, 0.3)]) * (1 - 0.13 * k)
        b.add(BALL, (x + g.normal(0, 0.03) * size, y, z + half[2] * 0.85), half, stone, turn=yaw)
        if g.random() < 0.6:  # arms
            for side in (-1, 1):
                spot = yaw @ np.array([0.05 * size, side * half[1] * 1.1, 0])
                arm = (0.08 * size, 0.08 * size, half[2] * 0.9)
                b.add(
                    BALL, (x + spot[0], y + spot[1], z + half[2]), arm, stone,
                    turn=yaw @ turned(0, g.normal(0, 0.5), side * g.uniform(0, 0.8)),
                )  # fmt: skip
        z += half[2] * 1.5


def _plant(b: Builder, x: float, y: float, z: float, size: float) -> None:
    g = b.generator
    leaf, pot = b.material("fractal", "leaves", "speckle"), b.material("plain", "bricks", "fractal")
    r = size * g.uniform(0.15, 0.3)
    b.add(CYLINDER, (x, y, z + r), (r, r, r), pot)
    for _ in range(int(g.integers(5, 14))):
        yaw, rise = g.uniform(0, 2 * math.pi), g.uniform(0.2, 1.3)
        long = size * g.uniform(0.25, 0.5)
        spot = np.array([math.cos(yaw) * math.cos(rise), math.sin(yaw) * math.cos(rise), math.sin(rise)]) * long
        b.add(
            BALL, (x + spot[0], y + spot[1], z + 2 * r + spot[2]), (long, size * 0.07, size * 0.02), leaf,
            turn=turned(yaw, -rise),
        )  # fmt: skip


def _items(b: Builder, half_x: float, half_y: float, z: float, count: int, size: float) -> None:
    """Things on a surface of the present group, mostly not inside each other."""
    g = b.generator
    taken: list[tuple[float, float, float]] = []
    for _ in range(count):
        own = size * 2 ** g.normal(0, 0.45)
        for _ in range(6):
            x, y = g.uniform(-half_x, half_x) * 0.9, g.uniform(-half_y, half_y) * 0.9
            if all((x - p) ** 2 + (y - q) ** 2 > (0.45 * (own + r)) ** 2 for p, q, r in taken):
                taken.append((x, y, own))
                _item(b, x, y, z, own)
                break
    b.look_here((0, 0, z + size / 3), max(half_x, half_y))


def _table(b: Builder, half_x: float, half_y: float, height: float) -> None:
    g = b.generator
    top = b.material("wood", "wood", "plain", "weave", "fractal", "planks", "bricks", repeat=g.uniform(0.5, 2))
    thick = g.uniform(0.015, 0.05)
    b.add(BOX, (0, 0, height - thick), (half_x, half_y, thick), top, gloss=float(g.choice([0, 0, 0.2])))
    leg, r = b.material("wood", "plain"), g.uniform(0.02, 0.05)
    round_legs = CYLINDER if g.random() < 0.5 else BOX
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.add(round_legs, (sx * (half_x - 2 * r), sy * (half_y - 2 * r), height / 2), (r, r, height / 2), leg)


def _shelf(b: Builder) -> None:
    """A bookcase with its back at y = 0, looking along -y."""
    g = b.generator
    wood = b.material("wood", "plain", "planks")
    wide, deep, boards = g.uniform(0.35, 0.8), g.uniform(0.12, 0.2), int(g.integers(2, 5))
    gap = g.uniform(0.28, 0.42)
    tall = boards * gap
    for side in (-1, 1):
        b.add(BOX, (side * wide, -deep, tall / 2), (0.015, deep, tall / 2), wood)
    b.add(BOX, (0, -0.01, tall / 2), (wide, 0.01, tall / 2), wood)
    for level in range(boards + 1):
        z = level * gap
        b.add(BOX, (0, -deep, z), (wide, deep, 0.012), wood)
        if level == boards or g.random() < 0.15:
            _item(b, g.uniform(-0.5, 0.5) * wide, -deep, z + 0.012, 0.25)
            continue
        x = -wide + 0.03
        while x < wide * g.uniform(0.3, 1.0) and len(b._solids) < 110:
            thick, high = g.uniform(0.012, 0.05), g.uniform(0.55, 0.9) * gap / 2
            cover = b.material("plain", "print", "wood", "picture", fit=True)
            b.add(BOX, (x + thick, -deep - g.uniform(0, 0.04), z + 0.012 + high), (thick, deep * 0.7, high), cover)
            x += 2 * thick + 0.003
    b.look_here((0, -deep, tall / 2), wide)


def _seat(b: Builder) -> None:
    """A sofa, an armchair, or a bed."""
    g = b.generator
    cloth = b.material("weave", "fractal", "plain", "speckle", "leaves", repeat=g.uniform(0.7, 3))
    wide, deep, low = g.uniform(0.4, 1.0), g.uniform(0.35, 0.9), g.uniform(0.18, 0.28)
    b.add(BOX, (0, 0, low), (wide, deep, low), cloth)
    b.add(BOX, (0, deep, low + 0.25), (wide, 0.1, 0.25 + low), cloth)
    for side in (-1, 1):
        if g.random() < 0.7:
            b.add(BOX, (side * wide, 0, low + 0.1), (0.09, deep, low + 0.1), cloth)
        pillow = b.material("weave", "picture", "fractal", repeat=g.uniform(1, 4))
        lean = turned(g.normal(0, 0.3), 0, g.uniform(0.2, 0.5))
        b.add(BALL, (side * wide * 0.5, deep * 0.6, 2 * low + 0.2), (0.24, 0.09, 0.2), pillow, turn=lean)
    b.look_here((0, 0, 2 * low), wide)


def _furnish(b: Builder, size: np.ndarray, pieces: int) -> None:
    g = b.generator
    for _ in range(pieces):
        if len(b._solids) > 100:
            return
        wall = float(g.choice([-1, 1]))
        x = g.uniform(-0.75, 0.75) * size[0] / 2
        which = int(g.integers(5))
        if which == 0:
            b.at(x, wall * size[1] / 2, 0, 0 if wall > 0 else math.pi)
            _shelf(b)
        elif which == 1:
            b.at(x, wall * (size[1] / 2 - 0.7), 0, (0 if wall > 0 else math.pi) + g.normal(0, 0.1))
            _seat(b)
        elif which == 2:
            b.at(x, g.uniform(-0.5, 0.5) * size[1], 0, g.uniform(0, 2 * math.pi))
            half_x, half_y, height = g.uniform(0.3, 0.9), g.uniform(0.25, 0.5), g.uniform(0.35, 0.9)
            _table(b, half_x, half_y, height)
            _items(b, half_x, half_y, height, int(g.integers(2, 7)), g.uniform(0.15, 0.35))
        elif which == 3:  # cupboard
            half = np.array([g.uniform(0.2, 0.6), g.uniform(0.2, 0.35), g.uniform(0.25, 1.0)])
            b.at(x, wall * (size[1] / 2 - half[1]), 0, g.normal(0, 0.03))
            front, body = b.material("wood", "plain", "bricks", fit=True), b.material("wood", "plain", "planks")
            b.add(BOX, (0, 0, half[2]), half, [body, body, front, front, body, body])
            if half[2] < 0.7:
                _items(b, half[0], half[1], 2 * half[2], int(g.integers(1, 4)), 0.25)
        else:
            b.at(x, g.uniform(-0.4, 0.4) * size[1], 0, g.uniform(0, 2 * math.pi))
            _items(b, 0.7, 0.7, 0.0, int(g.integers(1, 5)), g.uniform(0.3, 0.7))


def _room(b: Builder) -> ProceduralScene:
    g = b.generator
    size = np.array([g.uniform(2.6, 7), g.uniform(2.6, 6), g.uniform(2.2, 3.3)])
    _walls(b, size)
    _furnish(b, size, int(g.integers(5, 11)))
    b.at(0, 0)
    b.look_here((g.uniform(-1, 1), g.uniform(-1, 1), g.uniform(0.5, 1.5)), 1.0)
    room = np.array([[-size[0] / 2, -size[1] / 2, 0], [size[0] / 2, size[1] / 2, size[2]]])
    return b.finish(*_lit(b, room), room)


def _table_top(b: Builder) -> ProceduralScene:
    g = b.generator
    size = np.array([g.uniform(2.2, 6), g.uniform(2.2, 6), g.uniform(2.2, 3)])
    _walls(b, size)
    half_x, half_y, height = g.uniform(0.25, 0.9), g.uniform(0.25, 0.6), g.uniform(0.0, 0.9)
    b.at(g.uniform(-0.3, 0.3) * size[0], g.uniform(-0.3, 0.3) * size[1], 0, g.uniform(0, 2 * math.pi))
    if height > 0.25:
        _table(b, half_x, half_y, height)
    _items(b, half_x, half_y, height if height > 0.25 else 0.0, int(g.integers(2, 18)), g.uniform(0.08, 0.35))
    mine = b.focus[-1]
    _furnish(b, size, int(g.integers(0, 4)))
    b.focus = [mine]
    room = np.array([[-size[0] / 2, -size[1] / 2, 0], [size[0] / 2, size[1] / 2, size[2]]])
    return b.finish(*_lit(b, room), room)


def _clutter(b: Builder) -> ProceduralScene:
    """A room in which boxes, balls and rods hang and lie about in any pose."""
    g = b.generator
    size = np.array([g.uniform(2, 6), g.uniform(2, 6), g.uniform(2, 4)])
    _walls(b, size)
    b.at(0, 0)
    for _ in range(int(g.integers(4, 28))):
        place = np.array([g.uniform(-0.45, 0.45), g.uniform(-0.45, 0.45), g.uniform(0.02, 0.6)]) * size
        half = g.uniform(0.06, 0.5) * 2 ** g.normal(0, 0.7, 3)
        turn = turned(*g.uniform(0, 2 * math.pi, 3)) if g.random() < 0.5 else turned(g.uniform(0, 2 * math.pi))
        b.add(int(g.choice([BOX, BOX, BALL, CYLINDER])), place, half, b.material(), turn=turn)
        b.look_here(place, 0.7)
    room = np.array([[-size[0] / 2, -size[1] / 2, 0], [size[0] / 2, size[1] / 2, size[2]]])
    return b.finish(*_lit(b, room), room)


def _yard(b: Builder) -> ProceduralScene:
    """Ground, a dome of sky, houses, trees, and a few things in the foreground."""
    g = b.generator
    far = g.uniform(8, 25)
    sky = b.material("plain", "fractal", "plain", fit=True, glow=g.uniform(0.6, 1.3), lift=0.25)
    b.at(0, 0)
    b.add(BALL, (0, 0, 0), (far, far, far * 0.7), sky, inward=True)
    ground = b.material("speckle", "leaves", "fractal", "pebbles", "bricks", repeat=g.uniform(0.2, 0.8))
    b.add(BOX, (0, 0, -0.5), (far, far, 0.5), ground)
    for _ in range(int(g.integers(1, 7))):
        a, d = g.uniform(0, 2 * math.pi), far * g.uniform(0.45, 0.85)
        half = np.array([g.uniform(0.8, 3), g.uniform(0.8, 3), g.uniform(0.8, 3.5)])
        wall, roof = b.material("bricks", "planks", "picture", "plain", repeat=g.uniform(0.2, 0.7)), b.material()
        b.at(d * math.cos(a), d * math.sin(a), 0, a + g.normal(0, 0.4))
        b.add(BOX, (0, 0, half[2]), half, [wall, wall, wall, wall, roof, roof])
        for k in range(int(g.integers(0, 5))):
            pane = b.material("picture", "plain", fit=True)
            b.add(BOX, (-half[0], (k - 2) * half[1] * 0.45, half[2] * g.uniform(0.6, 1.4)), (0.05, 0.2, 0.3), pane)
    for _ in range(int(g.integers(0, 6))):
        a, d = g.uniform(0, 2 * math.pi), far * g.uniform(0.15, 0.7)
        b.at(d * math.cos(a), d * math.sin(a))
        trunk, crown, tall = b.material("wood", "fractal"), b.material("leaves", "speckle"), g.uniform(0.5, 2)
        b.add(CYLINDER, (0, 0, tall / 2), (0.08 * tall, 0.08 * tall, tall / 2), trunk)
        for _ in range(int(g.integers(1, 5))):
            spot = (g.normal(0, 0.3), g.normal(0, 0.3), tall * g.uniform(0.9, 1.4))
            b.add(BALL, spot, tall * g.uniform(0.25, 0.5, 3), crown)
    b.at(g.normal(0, 0.5), g.normal(0, 0.5), 0, g.uniform(0, 2 * math.pi))
    _items(b, 1.2, 1.2, 0.0, int(g.integers(3, 12)), g.uniform(0.3, 1.0))
    high = g.uniform(0.3, 1.2)
    aim = g.uniform(0, 2 * math.pi)
    sun = 60 * np.array([math.cos(aim) * math.cos(high), math.sin(aim) * math.cos(high), math.sin(high)])
    b.lamp(sun, g.uniform(0.6, 1.6) * np.array([1.05, 1.0, 0.92]), 1.0, 1e4)
    up = g.uniform(0.35, 0.7) * np.array([0.92, 1.0, 1.1])
    reach = far * 0.4
    return b.finish(np.stack((up, up * 0.5)), 0.0, np.array([[-reach, -reach, 0.1], [reach, reach, far * 0.3]]))
