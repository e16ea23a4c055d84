"""Run by the Python of nerfstudio's own environment: what the real package makes of a scene folder, as JSON.

Usage: ``python nerfstudio_probe.py SCENE``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch


def torchvision_of_another_build() -> None:
    """A torchvision built for CUDA imports beside a CPU torch once two of its operators are declared."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_kept"] = operators


def outputs(parser: Any, split: str) -> dict[str, Any]:
    """What a split holds, read through nerfstudio's own dataset."""
    from nerfstudio.data.datasets.base_dataset import InputDataset

    found = parser.get_dataparser_outputs(split)
    dataset = InputDataset(found)
    cameras = found.cameras
    return {
        "images": [path.name for path in found.image_filenames],
        "shapes": [list(dataset.get_image_float32(i).shape) for i in range(len(dataset))],
        "masks": None if found.mask_filenames is None else len(found.mask_filenames),
        "camera_to_worlds": cameras.camera_to_worlds.tolist(),
        "focal": torch.cat((cameras.fx, cameras.fy), 1).tolist(),
        "middle": torch.cat((cameras.cx, cameras.cy), 1).tolist(),
        "sizes": torch.cat((cameras.height, cameras.width), 1).tolist(),
        "intrinsics": cameras.get_intrinsics_matrices().tolist(),
        "points": list(found.metadata["points3D_xyz"].shape),
        "first_points": found.metadata["points3D_xyz"][:5].tolist(),
        "colors": str(found.metadata["points3D_rgb"].dtype),
        "transform": found.dataparser_transform.tolist(),
        "scale": found.dataparser_scale,
        "original": found.transform_poses_to_original_space(cameras.camera_to_worlds).tolist(),
    }


def method(scene: Path) -> dict[str, Any]:
    """Whether ``ns-train`` lists the method, and with what its model starts; LPIPS wants weights from the network, and
    is left out."""
    import torchmetrics.image.lpip

    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = lambda **_: torch.nn.Identity()
    import yaml
    from nerfstudio.configs.method_configs import all_methods
    from nerfstudio.data.scene_box import SceneBox

    config = yaml.load(yaml.dump(all_methods["da3gs"]), Loader=yaml.Loader)
    parser_config = config.pipeline.datamanager.dataparser
    parser_config.data = scene
    found = parser_config.setup().get_dataparser_outputs("train")
    model = config.pipeline.model.setup(
        scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]])),
        num_train_data=len(found.image_filenames),
        metadata=found.metadata,
        device="cpu",
        seed_points=(found.metadata["points3D_xyz"], found.metadata["points3D_rgb"]),
    )
    groups = model.get_gaussian_param_groups()
    return {
        "name": config.method_name,
        "class": type(model).__module__ + "." + type(model).__qualname__,
        "shapes": {name: list(value.shape) for name, value in model.gauss_params.items()},
        "means": model.means[:5].tolist(),
        "scales": model.scales[:5].exp().tolist(),
        "optimised": sorted(name for name in groups if name in config.optimizers),
        "antialiased": model.config.rasterize_mode,
    }


def main() -> None:
    """Discover, set up, read, save and load the configuration."""
    torchvision_of_another_build()
    import yaml
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.plugins.registry_dataparser import discover_dataparsers

    discovered, said = discover_dataparsers()
    config = discovered["da3gs"]
    config.data = Path(sys.argv[1])
    again = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    parser = again.setup()
    with tempfile.TemporaryDirectory() as folder:
        parser.get_dataparser_outputs("train").save_dataparser_transform(Path(folder) / "t.json")
    print("RESULT", json.dumps({
        "description": said["da3gs"],
        "offered": "da3gs" in all_dataparsers,
        "class": type(parser).__module__ + "." + type(parser).__qualname__,
        "train": outputs(parser, "train"),
        "val": outputs(parser, "val"),
        "method": method(Path(sys.argv[1])),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
