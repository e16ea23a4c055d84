"""Fixture cases of single functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.formats.splats.upstream_ply import upstream_rows
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import rotate_harmonics
from da3gs.geometry.projection import camera_directions, pixel_centers, rigid_inverse, unproject
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.geometry.similarity import Similarity, umeyama
from da3gs.network.camera import decode_cameras, encode_cameras, normalized_cameras
from da3gs.network.config import PyramidConfig, SplatConfig
from da3gs.network.heads.dpt import position_code, position_grid, resized
from da3gs.network.metric import far_sky, filled_sky, is_sky, metric_depth, metric_scale
from da3gs.network.model import normalize_images
from da3gs.network.ray_pose import cameras_from_rays, draw_sets, fit_homography, ql_decomposition
from da3gs.network.reference_view import choose_reference, reordered, restored
from da3gs.network.splats import scale_onto, splats_from_channels
from da3gs.network.upstream_api import robust_similarity
from da3gs.photos.resampling.sizing import batch_cropped, sized
from da3gs.rendering.paths.upstream_trajectories import interpolated_poses, stabilised, upstream_path
from tests.parity.cases import Case, CaseError, batches
from tests.parity.network import splat_outputs

Outputs = dict[str, Any]
_FAR = 100  # the nested cases put their scene so many times farther away to reach the ceiling of 200 m


def gs_adapter(case: Case) -> Outputs:
    """Splats from raw channels, with and without given cameras; harmonics turned alone."""
    o = case.checked_options(
        "sh_degree", "pred_color", "pred_offset_depth", "pred_offset_xy", "gaussian_scale_min", "gaussian_scale_max"
    )
    if o.get("pred_color") or not o.get("pred_offset_depth", True) or not o.get("pred_offset_xy", True):
        raise CaseError(f"unknown adapter options {o}")
    config = SplatConfig(
        pyramid=PyramidConfig(features=0, channels=(0, 0, 0, 0)),
        degree=o.get("sh_degree", 2),
        scale_min=o.get("gaussian_scale_min", 1e-5),
        scale_max=o.get("gaussian_scale_max", 30.0),
    )
    depth, opacities = case.tensor("depths"), case.tensor("opacities")
    height, width = depth.shape[-2:]
    cameras = _cameras(case.tensor("extrinsics"), case.tensor("intrinsics"), height, width)
    found: Outputs = {"pdf_to_opacity": opacities}
    scales: dict[str, Tensor | None] = {"free": None}
    if "in/gt_extrinsics" in case:
        scales["aligned"] = scale_onto(cameras.centers, rigid_inverse(case.tensor("gt_extrinsics"))[..., :3, 3])
    for name, scale in scales.items():
        splats = splats_from_channels(
            case.tensor("raw_gaussians"),
            depth,
            cameras,
            config,
            quaternions="upstream",
            depth_along="ray",
            opacities=opacities,
            scale=scale,
        )
        found |= splat_outputs(splats, f"{name}/")
    turned = rotate_harmonics(case.tensor("sh").mT[:, None], case.tensor("sh_rotations"))
    return found | {"rotate_sh": turned[:, 0].mT}


def ray_pose(case: Case) -> Outputs:
    """Cameras from ray maps, and the two building blocks."""
    o = case.checked_options("reproj_threshold", "n_iter", "sample_ratio", "samples")
    if (o.get("reproj_threshold", 0.2), o.get("n_iter", 100), o.get("sample_ratio", 0.3), o.get("samples", 8)) != (
        0.2,
        100,
        0.3,
        8,
    ):
        raise CaseError(f"unknown solver options {o}")
    rays, confidence = case.tensor("ray"), case.tensor("ray_conf")
    generator = case.generator
    solved = cameras_from_rays(rays, confidence, generator=generator)
    height, width = (int(side) for side in case.arrays["in/image_hw"])
    cameras = solved.cameras(height, width)
    q, lower = ql_decomposition(case.tensor("matrices").double())
    homography = fit_homography(
        case.tensor("h_src").double(), case.tensor("h_dst").double(), case.tensor("h_weight").double()
    )
    return {
        "R": solved.rotation,
        "T": solved.center,
        "focal": solved.focal,
        "principal": solved.principal,
        "c2w": solved.cam_to_world,
        "extrinsics": cameras.world_to_cam[..., :3, :],
        "intrinsics": cameras.intrinsics,
        "ransac_samples": draw_sets(confidence.shape[-2] * confidence.shape[-1], case.generator),
        "ql_q": q,
        "ql_l": lower,
        "homography": homography,
    }


def nested_alignment(case: Case) -> Outputs:
    """Metric scale and sky, step by step."""
    case.checked_options()
    depth, confidence = case.tensor("depth"), case.tensor("depth_conf")
    sky = is_sky(case.tensor("sky"))
    metric = metric_depth(case.tensor("metric_depth"), case.tensor("intrinsics"))
    scale = metric_scale(depth, confidence, metric, sky, generator=case.generator)
    world_to_cam = case.tensor("extrinsics")
    bottom = world_to_cam.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*world_to_cam.shape[:-2], 1, 4)
    cameras = _cameras(torch.cat((world_to_cam[..., :3, :], bottom), -2), case.tensor("intrinsics"), 1, 1)
    final_depth, final_confidence = far_sky(depth * scale, confidence, sky, generator=case.generator)
    far_depth, _ = far_sky(depth * _FAR, confidence, sky, generator=case.generator)
    return {
        "scaled_metric": metric,
        "non_sky": ~sky,
        "aligned_depth": depth * scale,
        "aligned_extrinsics": cameras.scaled(scale).world_to_cam[..., : world_to_cam.shape[-2], :],
        "scale_factor": scale,
        "final_depth": final_depth,
        "final_conf": final_confidence,
        "far_sky_depth": far_depth,
        "mono_depth": filled_sky(case.tensor("metric_depth"), sky, generator=case.generator),
    }


def reference_view(case: Case) -> Outputs:
    """The chosen view, and the order of views, for every input and strategy."""
    o = case.checked_options("strategies")
    found: Outputs = {}
    for name in case.names("in"):
        tokens = case.tensor(name)
        for strategy in o["strategies"]:
            index = choose_reference(tokens[:, :, 0], strategy)
            key = f"{name}/{strategy}"
            if f"out/{key}/candidates" in case:  # a tie: any candidate is right
                candidates = torch.from_numpy(case.arrays[f"out/{key}/candidates"])
                inside = candidates.gather(1, index[:, None])[:, 0]
                found |= {f"{key}/inside": inside, f"{key}/candidates": candidates if inside.all() else ~candidates}
                continue
            first = reordered(tokens, index)
            found |= {
                f"{key}/index": index,
                f"{key}/reordered_first": first[:, :, 0, :4],
                f"{key}/restored": restored(first, index)[:, :, 0, :4],
            }
    return found


def geometry(case: Case) -> Outputs:
    """Cameras, quaternions, grids, similarities."""
    case.checked_options()
    height, width = (int(side) for side in case.arrays["in/image_hw"])
    cameras = _cameras(case.tensor("extrinsics"), case.tensor("intrinsics"), height, width)
    decoded = decode_cameras(case.tensor("pose_enc"), height, width)
    rows, columns = case.arrays["out/uv_grid"].shape[:2]
    aspect = width / height
    x, y = position_grid(rows, columns, aspect)
    pixels = pixel_centers(rows, columns) / torch.tensor([columns, rows])
    directions = camera_directions(cameras.intrinsics, pixels * torch.tensor([width, height], dtype=torch.float32))
    directions = directions / directions.norm(dim=-1, keepdim=True)
    turned = torch.einsum("...ij,...hwj->...hwi", cameras.cam_to_world[..., :3, :3], directions)
    depth = case.tensor("depth")[..., 0]
    found: Outputs = {
        "c2w": cameras.cam_to_world,
        "pose_enc": encode_cameras(cameras),
        "dec_c2w": decoded.cam_to_world[..., :3, :],
        "dec_intrinsics": decoded.intrinsics,
        "uv_grid": torch.stack(torch.meshgrid(x, y, indexing="xy"), -1),
        "uv_embed_64": position_code(64, rows, columns, aspect)[0].permute(1, 2, 0),
        "pixel_grid": pixels,
        "ray_dirs": turned,
        "normalized_extrinsics": normalized_cameras(cameras).world_to_cam,
        "quat_to_mat": quaternion_to_matrix(case.tensor("quats").roll(1, -1)),
        "mat_to_quat": matrix_to_quaternion(case.tensor("rotations")).roll(-1, -1),
        "unproject_world": unproject(depth, _half_pixel_back(cameras.intrinsics), cameras.cam_to_world),
        "fov": _field_of_view(cameras)[0],
        "interp_align": resized(case.tensor("map").flatten(0, -4), *case.arrays["out/interp_align"].shape[-2:]),
    }
    reference, estimate = case.tensor("ext_ref").double(), case.tensor("ext_est").double()
    source, target = rigid_inverse(estimate)[:, :3, 3], rigid_inverse(reference)[:, :3, 3]
    for name, solve in (("umeyama_plain", umeyama), ("umeyama_ransac", robust_similarity)):
        found |= _similarity_outputs(solve(source, target), estimate, name)
    return found


def _half_pixel_back(intrinsics: Tensor) -> Tensor:
    """Intrinsics of a frame whose pixel centres are integers, in ours, where they are at +0.5."""
    moved = intrinsics.clone()
    moved[..., :2, 2] += 0.5
    return moved


def _field_of_view(cameras: Cameras) -> Tensor:
    """Angles between the rays through the middles of opposite sides."""
    w, h = float(cameras.width), float(cameras.height)
    middles = torch.tensor([[0, h / 2], [w, h / 2], [w / 2, 0], [w / 2, h]])
    rays = torch.nn.functional.normalize(camera_directions(cameras.intrinsics, middles), dim=-1)
    return torch.stack([(rays[..., i, :] * rays[..., i + 1, :]).sum(-1).acos() for i in (0, 2)], -1)


def _similarity_outputs(similarity: Similarity, estimate: Tensor, name: str) -> Outputs:
    return {
        f"{name}/rotation": similarity.rotation,
        f"{name}/translation": similarity.translation,
        f"{name}/scale": similarity.scale,
        f"{name}/aligned": rigid_inverse(similarity.apply_to_cameras(rigid_inverse(estimate))),
    }


def preprocess(case: Case) -> Outputs:
    """Photos at the network's size, with their intrinsics."""
    o = case.checked_options("process_res", "methods")
    found: Outputs = {}
    for batch, numbers in batches(case.arrays["in/batches"]):
        for method in o["methods"]:
            pairs = [
                sized(
                    case.arrays[f"in/image_{i}"],
                    case.arrays["in/intrinsics"][i],
                    resolution=o["process_res"],
                    method=method,
                )
                for i in numbers
            ]
            photos, intrinsics = batch_cropped([p for p, _ in pairs], [k for _, k in pairs if k is not None])
            images = torch.stack([torch.from_numpy(p).float() / 255 for p in photos]).permute(0, 3, 1, 2)
            found[f"{batch}/{method}/images"] = normalize_images(images)
            found[f"{batch}/{method}/intrinsics"] = np.stack(intrinsics or [])
    return found


def ply(case: Case) -> Outputs:
    """The official exporter's files: header, rows, and whole where asked for."""
    gaussians = Gaussians(
        means=case.tensor("means")[0],
        scales=case.tensor("scales")[0],
        quaternions=case.tensor("rotations")[0],
        opacities=case.tensor("opacities")[0],
        harmonics=case.tensor("harmonics")[0].mT,
    )
    found: Outputs = {}
    for name, given in case.options.items():
        o = dict(given)
        only_constant, padded = o.pop("save_sh_dc_only", True), o.pop("match_3dgs_mcmc_dev", False)
        header, rows = upstream_rows(
            gaussians,
            case.tensor("depth")[..., 0],
            harmonics="padded" if padded else "dc" if only_constant else "all",
            logit=o.pop("inv_opacity", True),
            nearest=o.pop("prune_by_depth_percent", 1.0),
            border=o.pop("prune_border_gs", True),
            every=o.pop("gs_views_interval", 1),
            centered=o.pop("shift_and_scale", False),
        )
        if o:
            raise CaseError(f"unknown options {o}")
        data = header + rows.numpy().astype("<f4").tobytes()
        found |= {f"{name}/header": np.frombuffer(header, np.uint8), f"{name}/vertices": rows}
        found[f"{name}/file_bytes"] = np.frombuffer(data, np.uint8)
    return found


def trajectory(case: Case) -> Outputs:
    """The camera paths of the official renderer."""
    o = case.checked_options("modes")
    height, width = (int(side) for side in case.arrays["in/image_hw"])
    found: Outputs = {}
    for length in (name.removeprefix("extrinsics_") for name in case.names("in") if name.startswith("extrinsics_")):
        world_to_cam, intrinsics = case.tensor(f"extrinsics_{length}")[0], case.tensor(f"intrinsics_{length}")[0]
        for mode in o["modes"]:
            path = upstream_path(mode, _cameras(world_to_cam, intrinsics, height, width))
            found[f"{length}/{mode}/extrinsics"] = path.world_to_cam
            size = torch.tensor([width, height, 1.0])[:, None]
            found[f"{length}/{mode}/intrinsics_normalised"] = path.intrinsics / size
    poses = rigid_inverse(case.tensor("extrinsics_long")[0].double())
    between = (("interpolate_extrinsics", poses[1]), ("interpolate_parallel", poses[0] @ case.tensor("shift").double()))
    for name, second in between:
        if f"out/{name}" in case:
            t = torch.linspace(0, 1, len(case.arrays[f"out/{name}"]), dtype=torch.float64)
            found[name] = interpolated_poses(poses[0], second, t)
    for name in case.names("out"):
        if name.startswith("stabilised_k"):
            found[name] = stabilised(poses, int(name.removeprefix("stabilised_k")))
    return found


def _cameras(world_to_cam: Tensor, intrinsics: Tensor, height: int, width: int) -> Cameras:
    return Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics, height=height, width=width)
