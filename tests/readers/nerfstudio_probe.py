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
    }))  # fmt: skip


if __name__ == "__main__":
    main()
