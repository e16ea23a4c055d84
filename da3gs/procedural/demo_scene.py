"""The demo photographs: a desk under a window, seen from eight places on an arc.

``python -m da3gs.procedural.demo_scene FOLDER`` makes them again.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from da3gs.formats.cameras.transforms import save_transforms, transforms_content
from da3gs.procedural.cameras import FINE, aim, color_map, depth_map, develop
from da3gs.procedural.solids import BALL, BOX, CYLINDER, Builder, ProceduralScene, turned
from da3gs.procedural.textures import TextureBank, make_textures

VIEWS, HEIGHT, WIDTH = 8, 504, 672
_SEED = 4
_HEIGHT_OF_TABLE = 0.74


def demo_photos(views: int = VIEWS, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    """The photographs [views, height, width, 3] in [0, 1]."""
    generator = np.random.default_rng(_SEED)
    bank = make_textures(generator, 66, 512)
    scene = desk_scene(generator, bank)
    focal = np.full(2, _focal(height, width))
    colors: list[NDArray[np.float32]] = []
    for pose in demo_poses(views):
        hits = depth_map(scene, pose, focal, height, width)
        colors.append(color_map(scene, bank, pose, focal, hits, quality=FINE, seed=len(colors)))
    return develop(generator, colors, plain=True)


def _focal(height: int, width: int) -> float:
    """Focal length in pixels of a camera that sees 58 degrees along its longer side."""
    return max(height, width) / 2 / math.tan(math.radians(58) / 2)


def demo_poses(views: int = VIEWS) -> NDArray[np.float64]:
    """Camera-to-world poses on an arc of 50 degrees in front of the desk."""
    target = np.array([0.0, 0.12, _HEIGHT_OF_TABLE + 0.14])
    poses = []
    for k in range(views):
        t = k / max(1, views - 1) - 0.5
        a = math.radians(-90 + 50 * t)
        rise = 0.52 + 0.07 * math.sin(2.5 * math.pi * t)
        eye = target + (1.32 + 0.1 * math.cos(5 * t)) * np.array([math.cos(a), math.sin(a), rise])
        poses.append(aim(eye, target + np.array([0.05 * t, 0, 0.02 * math.sin(7 * t)]), 0.02 * math.sin(9 * t)))
    return np.stack(poses)


def desk_scene(generator: np.random.Generator, bank: TextureBank) -> ProceduralScene:
    """A desk with books, a plant, fruit, a figure and a lamp, before a brick wall with a window."""
    b = Builder(generator, bank)
    wall = b.material("bricks", repeat=0.9, tone=(0.72, 0.6, 0.53))
    plaster = b.material("plain", repeat=0.6, tone=(0.86, 0.84, 0.78))
    floor = b.material("planks", repeat=0.7, tone=(0.5, 0.38, 0.28))
    b.at(0, 0, 1.25)
    b.add(BOX, (0, -0.6, 0), (2.0, 1.5, 1.25), [plaster, plaster, wall, plaster, plaster, floor], inward=True)
    b.at(0, 0)
    _on_the_wall(b)
    _desk(b)
    _things(b)
    b.lamp((-1.2, -1.3, 2.3), np.array([1.5, 1.42, 1.3]), 0.12, 2.5)
    b.lamp((1.4, -0.6, 2.1), np.array([0.55, 0.6, 0.7]), 0.2, 2.0)
    ambient = np.array([[0.34, 0.35, 0.38], [0.2, 0.18, 0.17]])
    return b.finish(ambient, 0.25, np.array([[-2, -2, 0], [2, 1, 2.5]]))


def _on_the_wall(b: Builder) -> None:
    frame = b.material("wood", repeat=3, tone=(0.3, 0.2, 0.13))
    for x, z, wide, high, tone in ((-0.62, 1.5, 0.22, 0.28, None), (0.12, 1.62, 0.33, 0.22, None)):
        b.add(BOX, (x, 0.9, z), (wide, 0.02, high), frame)
        b.add(BOX, (x, 0.895, z), (wide - 0.03, 0.02, high - 0.03), b.material("picture", fit=True, tone=tone))
    shelf = b.material("planks", repeat=1.5, tone=(0.58, 0.42, 0.28))
    b.add(BOX, (0.85, 0.78, 1.32), (0.32, 0.12, 0.014), shelf)
    x = 0.56
    for thick, high in ((0.022, 0.13), (0.03, 0.11), (0.018, 0.14), (0.026, 0.12), (0.02, 0.135), (0.03, 0.115)):
        cover = b.material("print", "weave", "plain", fit=True)
        b.add(BOX, (x + thick, 0.78, 1.334 + high), (thick, 0.09, high), cover)
        x += 2 * thick + 0.003
    b.add(CYLINDER, (1.0, 0.78, 1.39), (0.055, 0.055, 0.056), b.material("weave", repeat=7, tone=(0.3, 0.45, 0.6)))


def _desk(b: Builder) -> None:
    top = b.material("planks", repeat=1.2, tone=(0.68, 0.5, 0.33))
    leg = b.material("wood", repeat=2, tone=(0.4, 0.28, 0.2))
    b.add(BOX, (0, 0.25, _HEIGHT_OF_TABLE - 0.02), (0.85, 0.45, 0.02), top, gloss=0.06)
    for x in (-0.8, 0.8):
        for y in (-0.15, 0.65):
            b.add(BOX, (x, y, 0.35), (0.03, 0.03, 0.35), leg)
    mat = b.material("weave", repeat=1.4, fit=True, tone=(0.35, 0.5, 0.48))
    b.add(BOX, (0.06, 0.12, _HEIGHT_OF_TABLE + 0.003), (0.36, 0.2, 0.003), mat, turn=turned(0.08))


def _things(b: Builder) -> None:
    z = _HEIGHT_OF_TABLE
    b.at(-0.5, 0.33, z, 0.35)
    level = 0.0
    for k, thick in enumerate((0.022, 0.03, 0.018, 0.026)):
        page = b.material("plain", repeat=4, tone=(0.9, 0.87, 0.8))
        cover = b.material(("print", "weave", "picture", "bricks")[k], fit=True)
        b.add(
            BOX, (0, 0, level + thick), (0.15 - 0.012 * k, 0.11 - 0.008 * k, thick),
            [page, page, page, cover, cover, cover], turn=turned(0.22 * (-1) ** k),
        )  # fmt: skip
        level += 2 * thick
    b.add(BALL, (0.0, 0.0, level + 0.045), (0.05, 0.05, 0.045), b.material("speckle", repeat=4, tone=(0.75, 0.3, 0.2)))
    b.at(0.52, 0.42, z)
    pot, leaf = (
        b.material("bricks", repeat=5, tone=(0.7, 0.42, 0.3)),
        b.material("leaves", repeat=6, tone=(0.3, 0.5, 0.22)),
    )
    b.add(CYLINDER, (0, 0, 0.075), (0.085, 0.085, 0.075), pot)
    for k in range(13):
        yaw, rise, long = 2.4 * k, 0.35 + 0.09 * k, 0.14 + 0.012 * (k % 4)
        spot = np.array([math.cos(yaw) * math.cos(rise), math.sin(yaw) * math.cos(rise), math.sin(rise)]) * long
        b.add(BALL, np.array([0, 0, 0.15]) + spot, (long, 0.034, 0.012), leaf, turn=turned(yaw, -rise))
    b.at(0.28, 0.02, z, 0.5)
    mug = b.material("weave", repeat=9, tone=(0.82, 0.78, 0.7))
    b.add(CYLINDER, (0, 0, 0.05), (0.042, 0.042, 0.05), mug, gloss=0.15)
    b.add(CYLINDER, (0, 0, 0.0995), (0.036, 0.036, 0.001), b.material("fractal", repeat=9, tone=(0.24, 0.14, 0.08)))
    b.at(-0.12, 0.06, z + 0.006, 2.6)
    skin = b.material("fractal", repeat=5, tone=(0.85, 0.72, 0.25))
    for k in range(9):
        a = (k / 8 - 0.5) * 2.2
        thick = 0.02 * (0.55 + 0.6 * math.cos(a))
        place = (math.sin(a) * 0.095, (1 - math.cos(a)) * 0.06, thick)
        b.add(BALL, place, (0.028, thick, thick), skin, turn=turned(a * 0.8), gloss=0.08)
    b.at(0.02, 0.4, z, -0.3)
    stone = b.material("fractal", repeat=6, tone=(0.62, 0.6, 0.55))
    b.add(BOX, (0, 0, 0.03), (0.09, 0.09, 0.03), b.material("pebbles", repeat=5, tone=(0.4, 0.38, 0.36)))
    b.add(BALL, (0, 0, 0.13), (0.085, 0.075, 0.085), stone)
    b.add(BALL, (0, 0, 0.24), (0.062, 0.055, 0.065), stone)
    b.add(BALL, (0, -0.01, 0.335), (0.042, 0.042, 0.048), stone)
    for side in (-1, 1):
        b.add(BALL, (0.02, side * 0.075, 0.21), (0.026, 0.026, 0.075), stone, turn=turned(0, 0, side * 0.45))
    b.at(-0.3, -0.02, z, -0.25)
    page = b.material("print", fit=True, tone=(0.92, 0.9, 0.84))
    b.add(BOX, (0, 0, 0.006), (0.075, 0.1, 0.006), page)
    b.add(
        CYLINDER,
        (0.02, 0.0, 0.017),
        (0.005, 0.005, 0.07),
        b.material("plain", tone=(0.15, 0.25, 0.6)),
        turn=turned(0.4, 1.571),
    )


def main(folder: str) -> None:
    """Write the photographs as JPEG files into a folder, with their cameras (metres, z up) in transforms.json."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    focal = _focal(HEIGHT, WIDTH)
    intrinsics = np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]])
    content = transforms_content(
        [f"desk_{index + 1}.jpg" for index in range(VIEWS)],
        cam_to_world=demo_poses(),
        intrinsics=np.repeat(intrinsics[None], VIEWS, 0),
        sizes=[(HEIGHT, WIDTH)] * VIEWS,
    )
    save_transforms(target / "transforms.json", content)
    for index, photo in enumerate(demo_photos()):
        picture = Image.fromarray((photo * 255 + 0.5).astype(np.uint8))
        picture.save(target / f"desk_{index + 1}.jpg", quality=86, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
