"""Spark, a viewer that we did not write, shows what our renderer shows of the files that we write."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.formats import save_gaussians
from da3gs.rendering import render
from tests.small_scene import small_cameras, small_gaussians

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

MODULES = Path(__file__).parents[1] / "readers" / "node_modules"
WIDTH, HEIGHT = 560, 420
SITE = "http://spark.test/"

PAGE = """<!doctype html><meta charset="utf-8"><style>body { margin: 0; overflow: hidden }</style>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js",
  "three/addons/": "/three/examples/jsm/", "@sparkjsdev/spark": "/@sparkjsdev/spark/dist/spark.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
const asked = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const renderer = new THREE.WebGLRenderer({ antialias: false, preserveDrawingBuffer: true });
renderer.setSize(asked.width, asked.height);
document.body.append(renderer.domElement);
const scene = new THREE.Scene();
// splats trained without compensation for the blur, sorted by z, as ours
scene.add(new SparkRenderer({ renderer, preBlurAmount: 0.3, blurAmount: 0, sortRadial: false, maxStdDev: 3.3 }));
const camera = new THREE.PerspectiveCamera();
camera.matrixAutoUpdate = false;
camera.matrix.fromArray(asked.camToWorld).transpose();
camera.updateMatrixWorld(true);
camera.updateProjectionMatrix = () => {};
camera.projectionMatrix.fromArray(asked.projection).transpose();
camera.projectionMatrixInverse.copy(camera.projectionMatrix).invert();
const splats = new SplatMesh({ url: asked.file });
scene.add(splats);
await splats.initialized;
window.count = splats.numSplats ?? splats.packedSplats?.numSplats;
renderer.setAnimationLoop(() => renderer.render(scene, camera));
</script>"""


def opengl_pose(camera: Cameras) -> np.ndarray:
    return camera.cam_to_world.double().numpy() @ np.diag([1.0, -1.0, -1.0, 1.0])


def projection(camera: Cameras, near: float = 0.01, far: float = 100.0) -> np.ndarray:
    k, width, height = camera.intrinsics.double().numpy(), camera.width, camera.height
    return np.array(
        [
            [2 * k[0, 0] / width, 0, 1 - 2 * k[0, 2] / width, 0],
            [0, 2 * k[1, 1] / height, 2 * k[1, 2] / height - 1, 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(1e-10, np.mean((a.astype(float) / 255 - b.astype(float) / 255) ** 2))))


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".spz"])
def test_spark_shows_what_we_show(chromium: Any, tmp_path: Path, suffix: str) -> None:
    if not (MODULES / "@sparkjsdev" / "spark").is_dir():
        pytest.skip("Spark is not installed; make test-readers installs it (needs node)")
    splats = small_gaussians(3000, 1 if suffix == ".splat" else 9)
    splats.harmonics[:, 0].clamp_(-1.7, 1.7)
    path = tmp_path / f"a{suffix}"
    save_gaussians(splats, path)
    camera = small_cameras(3)[1].resized(HEIGHT, WIDTH)
    pose = opengl_pose(camera)
    if suffix == ".spz":  # which Spark shows in the axes that are stored, y and z negated
        pose = np.diag([1.0, -1.0, -1.0, 1.0]) @ pose
    asked = {
        "width": WIDTH, "height": HEIGHT, "file": f"/splats/{path.name}",
        "camToWorld": pose.ravel().tolist(), "projection": projection(camera).ravel().tolist(),
    }  # fmt: skip

    def serve(route: Any) -> None:
        place = route.request.url.removeprefix(SITE).partition("?")[0].partition("#")[0]
        if place == "":
            route.fulfill(body=PAGE, content_type="text/html")
        elif place.startswith("splats/"):
            route.fulfill(body=path.read_bytes(), content_type="application/octet-stream")
        elif (MODULES / place).is_file():
            kind = "text/javascript" if place.endswith("js") else "application/octet-stream"
            route.fulfill(body=(MODULES / place).read_bytes(), content_type=kind)
        else:
            route.abort()

    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    page.set_default_timeout(120_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.route("**/*", serve)
    try:
        page.goto(SITE + "#" + json.dumps(asked))
        page.wait_for_function("window.count > 0")
        assert page.evaluate("window.count") == 3000
        before = np.zeros(0)
        for _ in range(60):
            page.wait_for_timeout(700)
            seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            if np.array_equal(seen, before) and seen.max() > 150:
                break
            before = seen
    finally:
        context.close()
    ours = (render(splats, camera, backend="cpu").color.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    folder = os.environ.get("DA3GS_SCREENSHOTS")
    if folder:
        Image.fromarray(np.concatenate((seen, ours), 1)).save(Path(folder) / f"spark{suffix}.png")
    found = psnr(seen, ours)
    print(f"Spark against our renderer, {suffix}: {found:.2f} dB")
    assert complaints == []
    assert found >= 25
