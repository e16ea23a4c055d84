"""Procedural scenes: rays meet what they should, pictures and cameras agree, seeds repeat."""

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.geometry.projection import project, unproject
from da3gs.procedural.cameras import FAST, Quality, aim, color_map, compressed, depth_map, develop, take_shots
from da3gs.procedural.scenes import checked_kinds, make_scene
from da3gs.procedural.solids import BALL, BOX, CYLINDER, Builder, ProceduralScene, turned
from da3gs.procedural.textures import KINDS, make_textures
from da3gs.training import procedural_scene
from da3gs.training.data.loader import validation_batches


@pytest.fixture(scope="module")
def bank():
    return make_textures(np.random.default_rng(0), len(KINDS), 64)


def _alone(bank, kind: int, half: tuple[float, float, float], turn: np.ndarray | None = None) -> ProceduralScene:
    """One solid 5 in front of the origin, in a large room."""
    b = Builder(np.random.default_rng(0), bank)
    b.add(BOX, (0, 0, 0), (20, 20, 20), b.material("plain"), inward=True)
    b.add(kind, (0, 5, 0), half, b.material("plain"), turn=turn)
    b.lamp((0, 0, 10), np.ones(3), 0.01, 10)
    return b.finish(np.full((2, 3), 0.3), 0.2, np.array([[-9, -9, -9], [9, 9, 9]]))


@pytest.mark.parametrize("kind", [BOX, BALL, CYLINDER])
def test_depth_of_a_solid_is_the_distance_of_its_front(bank, kind):
    pose = aim(np.zeros(3), np.array([0.0, 1, 0]))
    depth, met = depth_map(_alone(bank, kind, (1, 0.5, 1)), pose, np.array([50.0, 50.0]), 33, 33)
    assert depth[16, 16] == pytest.approx(4.5, abs=1e-5)
    assert depth[0, 0] == pytest.approx(20.0, abs=1e-4)  # the room's wall: one depth along z everywhere
    assert met[16, 16] // 8 == 1
    assert met[0, 0] // 8 == 0


def test_a_ball_is_round(bank):
    pose = aim(np.zeros(3), np.array([0.0, 1, 0]))
    depth, met = depth_map(_alone(bank, BALL, (1, 1, 1)), pose, np.array([40.0, 40.0]), 40, 40)
    v, u = np.nonzero(met // 8 == 1)
    z = depth[v, u]
    x, y = (u + 0.5 - 20) / 40 * z, (v + 0.5 - 20) / 40 * z
    np.testing.assert_allclose(np.sqrt(x**2 + y**2 + (z - 5) ** 2), 1.0, atol=1e-5)
    assert len(z) > 100


def test_a_turned_box_shows_its_corner(bank):
    pose = aim(np.zeros(3), np.array([0.0, 1, 0]))
    depth, _ = depth_map(_alone(bank, BOX, (1, 1, 1), turned(np.pi / 4)), pose, np.array([500.0, 500.0]), 15, 15)
    assert depth[7, 7] == pytest.approx(5 - np.sqrt(2), abs=2e-3)


@pytest.mark.parametrize("kind", ["room", "table", "clutter", "yard"])
def test_tiles_hide_nothing(bank, kind):
    """The depth of a picture equals that of each of its pixels cast alone, without neighbours in its tile."""
    g = np.random.default_rng(3)
    scene, shots = None, None
    while shots is None:
        scene = make_scene(g, bank, kind)
        shots = take_shots(g, scene, 2, 40, 56)
    depth, _ = depth_map(scene, shots.cam_to_world[1], shots.focals[1], 40, 56)
    assert (depth > 0).all()
    pose, focal = shots.cam_to_world[1], shots.focals[1]
    for i, j in [(3, 5), (17, 40), (39, 55), (20, 28)]:
        ray = np.array([(j + 0.5 - 28) / focal[0], (i + 0.5 - 20) / focal[1], 1.0])
        towards = aim(np.zeros(3), np.array([0, 1.0, 0]))
        towards[:3, 2] = pose[:3, :3] @ ray / np.linalg.norm(ray)
        towards[:3, 0] = np.linalg.svd(towards[:3, 2][None])[2][1]
        towards[:3, 1] = np.cross(towards[:3, 2], towards[:3, 0])
        towards[:3, 3] = pose[:3, 3]
        alone, _ = depth_map(scene, towards, np.array([1e4, 1e4]), 1, 1)
        assert alone[0, 0] / np.linalg.norm(ray) == pytest.approx(depth[i, j], rel=1e-3)


def _interval(kind: int, origins: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where lines o + t d (rows) enter and leave the unit solid, by the textbook."""
    with np.errstate(all="ignore"):
        ends = np.sort((np.array([-1.0, 1.0])[:, None, None] - origins) / rays, axis=0)
        if kind == BOX:
            return ends[0].max(1), ends[1].min(1)
        round_part = slice(0, 3 if kind == BALL else 2)
        o, d = origins[:, round_part], rays[:, round_part]
        a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1
        near, far = (-b - np.sqrt(b * b - a * c)) / a, (-b + np.sqrt(b * b - a * c)) / a
        if kind == CYLINDER:
            near, far = np.maximum(near, ends[0, :, 2]), np.minimum(far, ends[1, :, 2])
        return np.where(np.isnan(near), np.inf, near), np.where(np.isnan(far), -np.inf, far)


@pytest.mark.parametrize("kind", ["room", "table", "clutter", "yard"])
def test_every_pixel_meets_what_is_nearest_of_all_solids(bank, kind):
    """Against a search without tiles, order or early ends; what sticks out of a wall is hidden by the wall."""
    g = np.random.default_rng(8)
    for _ in range(3):
        shots = None
        while shots is None:
            scene = make_scene(g, bank, kind)
            shots = take_shots(g, scene, 1, 45, 60)
        pose, focal = shots.cam_to_world[0], shots.focals[0]
        depth, met = depth_map(scene, pose, focal, 45, 60)
        v, u = np.mgrid[0.5:45, 0.5:60].reshape(2, -1)
        rays = np.stack(((u - 30) / focal[0], (v - 22.5) / focal[1], np.ones_like(u)), 1) @ pose[:3, :3].T
        every = np.full((len(scene.kinds), len(rays)), np.inf)
        for p, frame in enumerate(scene.frames):
            origin = np.broadcast_to(frame @ (pose[:3, 3] - scene.centers[p]), rays.shape)
            near, far = _interval(scene.kinds[p], origin, rays @ frame.T)
            t = far if scene.inward[p] else near
            every[p] = np.where((near <= far) & (t > 1e-3), t, np.inf)
        np.testing.assert_allclose(depth.ravel(), every.min(0), rtol=1e-6)
        np.testing.assert_allclose(every[met.ravel() // 8, np.arange(len(rays))], every.min(0), rtol=1e-6)


def test_shadows_fall_where_a_solid_hides_the_lamp(bank):
    """The floor under a ball between it and a small lamp, by similar triangles; and nowhere else."""
    b = Builder(np.random.default_rng(0), bank)
    white = b.material("plain", tone=(0.5, 0.5, 0.5))
    b.add(BOX, (0, 0, -1), (20, 20, 1), white)
    b.add(BALL, (0, 0, 2), (0.5, 0.5, 0.5), white)
    b.lamp((0, 0, 4), np.ones(3), 0.0, 10)
    scene = b.finish(np.full((2, 3), 0.3), 0.0, np.array([[-9, -9, -9], [9, 9, 9]]))
    pose, focal = aim(np.array([0.0, -8.0, 5.0]), np.zeros(3)), np.array([80.0, 80.0])
    hits = depth_map(scene, pose, focal, 60, 80)
    lit, dark = (color_map(scene, bank, pose, focal, hits, quality=quality) for quality in (FAST, Quality()))
    v, u = np.mgrid[0.5:60, 0.5:80]
    rays = np.stack(((u - 40) / 80, (v - 30) / 80, np.ones_like(u)), -1) @ pose[:3, :3].T
    points = pose[:3, 3] + rays * hits[0][..., None]
    reach = np.linalg.norm(points[..., :2], axis=-1)
    edge = 4 * np.tan(np.arcsin(0.5 / 2))  # the tangents from the lamp to the ball, at the floor
    floor = hits[1] // 8 == 0
    hidden = floor & (reach < edge - 0.15)
    assert hidden.sum() > 30
    assert (dark[hidden] < 0.8 * lit[hidden]).all()
    np.testing.assert_array_equal(dark[floor & (reach > edge + 0.15)], lit[floor & (reach > edge + 0.15)])


def test_colour_is_lit_and_repeats(bank):
    scene = _alone(bank, BALL, (1, 1, 1))
    pose = aim(np.zeros(3), np.array([0.0, 1, 0]))
    focal = np.array([40.0, 40.0])
    hits = depth_map(scene, pose, focal, 40, 40)
    one, two = (color_map(scene, bank, pose, focal, hits, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.isfinite(one).all()
    assert one.min() >= 0
    assert one[12:16, 20].mean() > one[24:28, 20].mean()  # the lamp hangs above the ball
    unshadowed = color_map(scene, bank, pose, focal, hits, quality=FAST, seed=7)
    assert (unshadowed >= one - 1e-6).mean() > 0.99


def test_textures_have_every_level(bank):
    assert bank.kinds == KINDS
    assert bank.level_starts.tolist() == [0, 64 * 64, 64 * 64 + 32 * 32, 64 * 64 + 32 * 32 + 16 * 16, 5440]
    assert bank.atlas.shape == (len(KINDS), 5440 + 16, 3)
    finest, coarsest = bank.atlas[:, :4096].mean(1), bank.atlas[:, 5440:].mean(1)
    np.testing.assert_allclose(finest, coarsest, atol=1.0)  # a level keeps the mean, to rounding


def test_develop_exposes_alike():
    g = np.random.default_rng(0)
    color = np.full((8, 8, 3), 0.3, np.float32)
    bright, dark = (develop(g, [color * gain], plain=True) for gain in (10.0, 0.1))
    np.testing.assert_allclose(bright, dark, atol=1e-5)
    assert 0.3 < bright.mean() < 0.7


def test_half_of_all_photographs_have_been_jpegs():
    """Blocks of 8 pixels, and 8 bits a channel: what phones and the web do to every photo."""
    ramp = np.linspace(0.1, 0.9, 48, dtype=np.float32)
    photo = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 0.5), -1).astype(np.float32)
    errors = [np.abs(compressed(photo, quality) - photo).mean() for quality in (95, 70, 40)]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.03
    seen = [develop(np.random.default_rng(seed), [photo]) * 255 for seed in range(40)]
    share = np.mean([np.allclose(one, one.round(), atol=1e-3) for one in seen])
    assert 0.3 < share < 0.7


def test_a_procedural_scene_is_one_world():
    """What one view sees lands at the other view's depth, wherever it is not hidden."""
    views, depth = procedural_scene(5, 3, 70, 98)
    assert views.images.shape == (3, 3, 70, 98)
    assert views.cameras is not None
    assert torch.allclose(views.cameras.world_to_cam[0], torch.eye(4))
    cameras = views.cameras
    points = unproject(depth[:1], cameras.intrinsics[:1], cameras.cam_to_world[:1]).reshape(1, -1, 3)
    pixels, z = project(points, cameras.intrinsics[1:2], cameras.world_to_cam[1:2])
    u, v = pixels[0].floor().long().unbind(-1)
    inside = (z[0] > 0) & (u >= 0) & (u < 98) & (v >= 0) & (v < 70)
    other = depth[1][v[inside], u[inside]]
    ratio = z[0][inside] / other
    assert inside.float().mean() > 0.25
    assert (ratio > 0.97).float().mean() > 0.95 or (ratio - 1).abs().median() < 0.02
    assert ((ratio - 1).abs() < 0.05).float().mean() > 0.5


def test_the_same_seed_is_the_same_scene():
    (first, depth), (second, again) = (procedural_scene(11, 2, 42, 56) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(depth, again)
    assert not torch.equal(first.images, procedural_scene(12, 2, 42, 56)[0].images)


@pytest.mark.parametrize("kind", ["terrain", "wires", "studio"])
def test_further_kinds_are_seen_from_free_space(bank, kind):
    g = np.random.default_rng(4)
    scene, shots = None, None
    while shots is None:
        scene = make_scene(g, bank, kind)
        shots = take_shots(g, scene, 2, 42, 56)
    for pose, focal in zip(shots.cam_to_world, shots.focals, strict=True):
        hits = depth_map(scene, pose, focal, 42, 56)
        assert (hits[0] > 0).all()
        color = color_map(scene, bank, pose, focal, hits, seed=1)
        assert np.isfinite(color).all()
        assert color.mean() > 0.01


def test_the_sky_has_colour_and_no_depth():
    batches = validation_batches(4, (42, 56), views=2, kinds=(("terrain", 1.0),))
    sky, depth, images = batches[0].sky, batches[0].depth, batches[0].images
    assert sky is not None
    assert torch.equal(sky, depth == 0)
    assert 0 < sky.float().mean() < 0.7
    assert depth.max() < 1e3
    assert images.movedim(2, -1)[sky].mean() > 0.1
    assert not validation_batches(2, (42, 56), views=2)[0].sky.any()  # rooms have none


def test_kinds_are_drawn_by_their_shares():
    kinds = checked_kinds((("studio", 3.0), ("wires", 0.0)))
    assert kinds == (("studio", 3.0), ("wires", 0.0))
    with pytest.raises(InputError, match="all shares are 0"):
        checked_kinds((("room", 0.0),))


def test_motion_says_how_far_cameras_go(bank):
    apart = {}
    for motion in ((0.0, 0.05), (0.5, 0.9)):
        g, moved = np.random.default_rng(5), []
        while len(moved) < 6:
            scene = make_scene(g, bank, "clutter")
            if (shots := take_shots(g, scene, 2, 40, 56, motion)) is not None:
                first, second = shots.cam_to_world
                moved.append(float(np.linalg.norm(first[:3, 3] - second[:3, 3])))
        apart[motion] = np.median(moved)
    assert apart[0.0, 0.05] < 0.3 * apart[0.5, 0.9]
