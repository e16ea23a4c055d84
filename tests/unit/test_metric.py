"""Metres, known focal lengths, single-photo models, and sky: with networks that know the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from da3gs import Prediction, Views
from da3gs.cameras import Cameras
from da3gs.depth.monocular_scale import agreeing_depth
from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity
from da3gs.network import CONFIGS
from da3gs.network.config import ModelConfig, NestedConfig
from da3gs.pipeline.metric_scale import focal_residual
from da3gs.pipeline.predict import predict
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Settings
from da3gs.rendering import render
from tests.unit.plane_scene import TruthNetwork, plane_scene, write_photos, write_transforms
from tests.unit.test_reconstruct import similarity

VIEWS, DEPTH = plane_scene()
FOCAL = 102.0  # the mean of 100 and 104


class Knowing(nn.Module):
    """Knows the photos: true depth times a factor a view, true cameras or none, sky where it is told."""

    def __init__(
        self, config: object, factors: torch.Tensor | float = 1.0, sky: torch.Tensor | None = None, zoom: float = 1.0
    ) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.config, self.sky, self.zoom = config, sky, zoom
        self.factors = torch.as_tensor(factors).expand(len(VIEWS))

    def forward(self, views: Views, **options: object) -> Prediction:
        flat = VIEWS.images.flatten(1)
        index = [int((flat - image.flatten()).abs().mean(-1).argmin()) for image in views.images]
        monocular = isinstance(self.config, ModelConfig) and self.config.camera is None
        assert not monocular or views.cameras is None
        cameras = VIEWS.cameras[index]
        zoomed = cameras.intrinsics * torch.tensor([self.zoom, self.zoom, 1])[:, None]
        zoomed[:, :2, 2] = cameras.intrinsics[:, :2, 2]
        return Prediction(
            depth=DEPTH[index] * self.factors[index][:, None, None],
            confidence=None if monocular else torch.full_like(DEPTH[index], 2.0),
            sky=None if self.sky is None else self.sky[index],
            cameras=None if monocular else dataclasses.replace(cameras, intrinsics=zoomed),
            metric=isinstance(self.config, NestedConfig),
        )


MONO, METRIC, NESTED = (CONFIGS[name] for name in ("da3mono-large", "da3metric-large", "da3nested-giant-large"))
SINGLE = VIEWS[[2]]


def bare(views: Views, intrinsics: torch.Tensor | None = None) -> Views:
    return dataclasses.replace(views, cameras=None, intrinsics=intrinsics)


def test_a_nested_model_makes_metres(tmp_path: Path) -> None:
    photos = write_photos(VIEWS, tmp_path / "photos")
    scene = reconstruct(photos, model=Knowing(NESTED), resolution=112)
    assert scene.record["frame"]["metric"] is True
    assert scene.record["frame"]["unit"] == "metre"
    torch.testing.assert_close(scene.depth, DEPTH, rtol=1e-5, atol=0)
    true = VIEWS.cameras.centers
    torch.testing.assert_close(torch.pdist(scene.cameras.centers), torch.pdist(true), rtol=1e-4, atol=1e-5)
    distance = (scene.gaussians.means - scene.cameras.centers[0]).norm(dim=-1).median()
    assert distance.item() == pytest.approx(DEPTH.median().item(), rel=0.2)  # splats are metres too
    off = reconstruct(photos, model=Knowing(NESTED), resolution=112, metric="off")
    assert off.record["frame"]["metric"] is False
    assert off.depth.median().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("unit", [1.0, 0.25, 40.0])
def test_metres_of_given_poses(tmp_path: Path, unit: float) -> None:
    """The caller's poses count ``unit`` of theirs a metre: kept by default, made metres on request."""
    folder = write_transforms(VIEWS, tmp_path / "posed", similarity(unit, 3, shift=unit))
    kept = reconstruct(folder, model=Knowing(NESTED), resolution=112, holdout="photo_2")
    assert kept.record["frame"]["metric"] is False
    assert kept.record["frame"]["unit"] == "given"
    assert kept.record["frame"]["metres_per_given_unit"] == pytest.approx(1 / unit, rel=1e-3)
    metres = reconstruct(folder, model=Knowing(NESTED), resolution=112, holdout="photo_2", metric="on")
    assert metres.record["frame"]["unit"] == "metre"
    assert metres.record["frame"]["given_times"] == pytest.approx(1 / unit, rel=1e-3)
    index = [0, 1, 3, 4]
    true = torch.pdist(VIEWS.cameras.centers[index])
    torch.testing.assert_close(torch.pdist(metres.cameras.centers), true, rtol=1e-3, atol=1e-3)
    same = torch.isclose(metres.depth, kept.depth / unit, rtol=1e-3, atol=1e-4)
    assert same.float().mean() > 0.95  # stereo chooses among planes, and a rounding in another unit can turn a choice
    apart = np.linalg.norm(
        metres.cam_to_world_given[:, None, :3, 3] - metres.cam_to_world_given[None, :, :3, 3], axis=-1
    )
    np.testing.assert_allclose(apart[np.triu_indices(4, 1)], true, rtol=1e-3)
    assert metres.record["psnr"]["holdout_mean"] == pytest.approx(kept.record["psnr"]["holdout_mean"], abs=0.5)


def test_a_metric_model_with_a_known_focal_length() -> None:
    """metres = focal · depth / 300, in pixels of the photo as it is used."""
    known = torch.tensor([[[100.0, 0, 55], [0, 104, 43], [0, 0, 1]]])
    result = predict(Knowing(METRIC), bare(SINGLE, known), Settings())
    assert result.metric
    torch.testing.assert_close(result.depth, DEPTH[[2]] * FOCAL / 300)
    torch.testing.assert_close(result.cameras.intrinsics, known)
    without = predict(Knowing(METRIC), bare(SINGLE), Settings())
    assert not without.metric
    off = predict(Knowing(METRIC), bare(SINGLE, known), Settings(metric="off"))
    assert not off.metric


@pytest.mark.parametrize(
    ("config", "known", "said"),
    [
        (METRIC, None, r"focal length of photo_2.*transforms\.json.*da3nested"),
        (METRIC, torch.full((1, 3, 3), torch.nan), "focal length of photo_2"),
        (MONO, torch.eye(3)[None], r"da3mono-large does not know metres; use --model da3nested"),
        (
            CONFIGS["da3-base"],
            torch.eye(3)[None],
            r"da3-base does not know metres; use --model da3nested.*da3metric-large",
        ),
    ],
)
def test_metres_that_nobody_can_tell(config: object, known: torch.Tensor | None, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        predict(Knowing(config), bare(SINGLE, known), Settings(metric="on"))
    assert "\n" not in str(error.value)


def test_a_monocular_model_takes_one_photo_or_given_poses() -> None:
    one = predict(Knowing(MONO), bare(SINGLE), Settings())
    assert one.poses == "predicted"
    focal = one.cameras.intrinsics[0, 0, 0]
    assert 2 * torch.rad2deg(torch.atan(56 / focal)).item() == pytest.approx(60)  # a guess, where nothing is known
    with pytest.raises(InputError, match="cannot tell the poses of 5 photos; name one photo, give poses"):
        predict(Knowing(MONO), bare(VIEWS), Settings())
    with pytest.raises(InputError, match="no rays"):
        predict(Knowing(MONO), bare(SINGLE), Settings(poses="rays"))


@pytest.mark.parametrize("unit", [1.0, 0.01, 300.0])
def test_monocular_depth_finds_its_scale_under_given_poses(unit: float) -> None:
    """Each photo's depth is right up to a factor of its own; the photos tell all factors."""
    factors = torch.tensor([1.0, 3.0, 0.4, 2.0, 0.7]) * 5
    world = Similarity(
        scale=torch.tensor(unit, dtype=torch.float64),
        rotation=torch.eye(3, dtype=torch.float64),
        translation=torch.zeros(3, dtype=torch.float64),
    )
    given = dataclasses.replace(VIEWS, cameras=VIEWS.cameras.transformed(world))
    result = predict(Knowing(MONO, factors), given, Settings())
    assert result.poses == "given"
    ratio = result.depth / (DEPTH * unit)
    assert (ratio.log().abs() < 0.05).all(), ratio.flatten(1).median(-1)


def test_metric_depth_tells_how_long_a_unit_is() -> None:
    given = dataclasses.replace(
        VIEWS, cameras=dataclasses.replace(VIEWS.cameras, world_to_cam=VIEWS.cameras.scaled(7.0).world_to_cam)
    )
    result = predict(Knowing(METRIC, 300 / FOCAL), given, Settings())
    assert result.metres == pytest.approx(1 / 7, rel=0.05)
    assert not result.metric  # the caller's frame stays as it is
    metres = result.in_metres()
    assert metres.metric
    assert metres.depth.median().item() == pytest.approx(DEPTH.median().item(), rel=0.05)


def test_cameras_on_one_spot_say_nothing_of_scale() -> None:
    still = dataclasses.replace(VIEWS.cameras, world_to_cam=VIEWS.cameras.world_to_cam[:1].expand(5, 4, 4).clone())
    depth, scale = agreeing_depth(DEPTH, dataclasses.replace(VIEWS, cameras=still), sky=None, together=False)
    assert scale == 1
    assert torch.equal(depth, DEPTH)


def test_a_known_focal_length_replaces_the_predicted_one(tmp_path: Path) -> None:
    """Depth grows with the focal length, so that things keep their lateral size; the residual is told."""
    known = VIEWS.cameras.intrinsics.clone()
    known[3] = torch.nan
    result = predict(Knowing(CONFIGS["da3-base"], zoom=1.25), bare(VIEWS, known), Settings())
    ratio = torch.tensor([0.8, 0.8, 0.8, 1.0, 0.8])
    torch.testing.assert_close(result.depth, DEPTH * ratio[:, None, None])
    torch.testing.assert_close(result.cameras.intrinsics[[0, 1, 2, 4]], known[[0, 1, 2, 4]])
    assert result.focal is not None
    assert result.focal.percent == pytest.approx(25, abs=1e-3)
    assert result.focal.views == 4
    lateral = result.depth / result.cameras.intrinsics[:, 0, 0][:, None, None]
    own = DEPTH / (1.25 * VIEWS.cameras.intrinsics[:, 0, 0][:, None, None])
    torch.testing.assert_close(lateral, own)


def test_the_focal_residual_is_recorded_and_printed(tmp_path: Path) -> None:
    from da3gs.cli._summary import summary_lines
    from da3gs.pipeline.check import check

    folder = write_transforms(VIEWS, tmp_path / "posed")
    scene = reconstruct(folder, model=Knowing(CONFIGS["da3-base"], zoom=0.9), resolution=112, poses="predicted")
    assert scene.record["poses"]["focal"] == {
        "source": "given", "percent": pytest.approx(-10, abs=0.01), "largest": pytest.approx(10, abs=0.01), "views": 5
    }  # fmt: skip
    scene.save(tmp_path / "s.scene")
    report = check(tmp_path / "s.scene")
    from da3gs.cli._summary import summary

    facts = summary(scene, tmp_path / "s.scene", report, {"total": 1.0})
    lines = summary_lines(scene, facts)
    assert any("predicted -10.0 % from the given focal length" in line for line in lines)
    poor = summary_lines(scene, facts | {"psnr_input": 14.0})
    assert [line for line in poor if "leave --poses out" in line]
    fine = summary_lines(scene, facts | {"psnr_input": 30.0})
    assert not [line for line in fine if "leave --poses out" in line]


def test_no_residual_where_nothing_is_known() -> None:
    assert focal_residual(VIEWS.cameras, torch.full((5, 3, 3), torch.nan)) is None


SKY = torch.zeros(DEPTH.shape, dtype=torch.bool)
SKY[:, :30] = True


def sky_scene(tmp_path: Path, **flags: object):
    return reconstruct(
        write_photos(VIEWS, tmp_path / "photos"), model=Knowing(NESTED, sky=SKY), resolution=112, **flags
    )


def test_sky_is_dropped_or_put_on_a_shell(tmp_path: Path) -> None:
    dropped = sky_scene(tmp_path)
    assert dropped.record["cleaned"]["sky"] == int(SKY.sum())
    assert not dropped.provenance.sky.any()
    shell = sky_scene(tmp_path, sky="shell")
    on_shell = shell.provenance.sky
    assert int(on_shell.sum()) >= int(SKY.sum())
    distance = (shell.gaussians.means - shell.cameras.centers.mean(0)).norm(dim=-1)
    radius = distance[on_shell]
    torch.testing.assert_close(radius, radius[:1].expand_as(radius), rtol=1e-4, atol=0)
    assert radius[0] > 1.49 * distance[~on_shell].max()
    assert torch.equal(shell.gaussians.means[~on_shell], dropped.gaussians.means)
    back = shell
    back.save(tmp_path / "s.scene")


@pytest.mark.parametrize("size", [1, 2])
def test_the_shell_has_no_holes(tmp_path: Path, size: int) -> None:
    """Also where it is looked at from twice as near."""
    scene = sky_scene(tmp_path, sky="shell")
    for index in range(len(VIEWS)):
        picture = render(scene.gaussians, scene.cameras[index].resized(84 * size, 112 * size))
        assert picture.alpha[2 * size : 29 * size, 2 * size : -2 * size].min() > 0.9


def test_the_shell_looks_like_the_sky(tmp_path: Path) -> None:
    """From a single photo: the sky of this scene is painted on a near plane, which no two photos see alike."""
    folder = write_photos(SINGLE, tmp_path / "photos")
    scene = reconstruct(folder, model=Knowing(NESTED, sky=SKY), resolution=112, sky="shell")
    picture = render(scene.gaussians, scene.cameras[0])
    assert (picture.color[:28] - SINGLE.images[0].movedim(0, -1)[:28]).abs().mean() < 0.03


def test_the_shell_is_behind_what_stands_before_it(tmp_path: Path) -> None:
    """Where the sky ends, flyers are cleaned away; the shell goes on behind the gap."""
    scene = sky_scene(tmp_path, sky="shell")
    alpha = render(scene.gaussians, scene.cameras[2]).alpha
    assert alpha[26:36, 5:-5].min() > 0.8


def test_sky_of_a_head_goes_to_the_shell_too(tmp_path: Path) -> None:
    from da3gs.network.depth_splats import splats_from_depth
    from da3gs.prediction import Placed
    from da3gs.splats.from_prediction import assemble

    cameras = VIEWS.cameras
    splats = splats_from_depth(VIEWS.images, DEPTH, cameras)
    banded = dataclasses.replace(splats, harmonics=torch.nn.functional.pad(splats.harmonics, (0, 0, 0, 8), value=0.1))
    result = Placed(depth=DEPTH, cameras=cameras, sky=SKY, gaussians=banded)
    assembled = assemble(result, VIEWS, sky="shell")
    assert assembled.gaussians.harmonics.shape[1] == 9
    sky = assembled.provenance.sky
    assert (assembled.gaussians.harmonics[sky][:, 1:] == 0).all()
    assert assembled.provenance.confidence[sky].isnan().all()
    assert (assembled.provenance.edge[sky] == 0).all()
    assert len(assembled.gaussians) == len(assembled.wanted) == len(sky)
    assert isinstance(result.cameras, Cameras)


def test_a_network_without_sky_has_no_shell(tmp_path: Path) -> None:
    network = TruthNetwork(VIEWS, DEPTH, similarity(1.0, 1))
    folder = write_photos(VIEWS, tmp_path / "photos")
    plain, shell = (
        reconstruct(folder, model=network, resolution=112, sky=sky, poses="predicted") for sky in ("drop", "shell")
    )
    assert torch.equal(plain.gaussians.means, shell.gaussians.means)


def test_nothing_but_sky_becomes_a_shell(tmp_path: Path) -> None:
    model = Knowing(NESTED, sky=torch.ones_like(SKY))
    folder = write_photos(VIEWS, tmp_path / "photos")
    scene = reconstruct(folder, model=model, resolution=112, sky="shell")
    assert scene.provenance.sky.all()
    with pytest.raises(InputError, match="none of"):
        reconstruct(folder, model=model, resolution=112)
