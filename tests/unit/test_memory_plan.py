"""Predicted peak memory against measured, and what happens when memory runs out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from da3gs._memory import is_out_of_memory
from da3gs.checkpoints.convert import upstream_shapes
from da3gs.errors import BackendError
from da3gs.network import DepthAnything3, named_config
from da3gs.network.chunks import chunk, smaller_chunks
from da3gs.pipeline.dry_run import plan
from da3gs.pipeline.memory_estimate import peak_of, predicted_peak, what_fits, within_memory
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Settings
from tests.unit.plane_scene import plane_scene, write_transforms

MEASURED = """
import json, sys
import torch
import da3gs.pipeline.reconstruct as program
import da3gs.pipeline.dry_run

def resident(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))

torch.set_num_threads(2)
before = resident("VmRSS")
poses = sys.argv[5]
program.reconstruct(sys.argv[1], model=sys.argv[2], views=int(sys.argv[3]), resolution=int(sys.argv[4]), poses=poses)
print(json.dumps(resident("VmHWM") - before))
"""

LIMITED = """
import resource, sys
import torch
from da3gs.errors import BackendError
from da3gs.pipeline.model_loading import loaded_model
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Settings

torch.set_num_threads(1)
ready = loaded_model("da3gs-nano", Settings())
reconstruct(sys.argv[1], model=ready, views=2, resolution=56, edge=50.0)
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    reconstruct(sys.argv[1], model=ready, views=12, resolution=504)
except BackendError as error:
    print(error)
"""

KEPT = """
import resource
import torch
from da3gs._memory import kept_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(24_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory():
    kept = [new_pages() for _ in range(40)][-1]  # up to ten were seen until one found a place that suits all
print([kept, new_pages()])
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")


def photos(folder: Path, count: int, width: int, height: int) -> Path:
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (height // 14, width // 14, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def random_file(name: str, folder: Path) -> Path:
    """An official file of true size."""
    generator = torch.Generator().manual_seed(0)
    shapes = upstream_shapes(named_config(name), aliases=False)
    tensors = {f"model.{key}": 0.02 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def child(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tiny() -> DepthAnything3:
    torch.manual_seed(0)
    return DepthAnything3(named_config("da3gs-nano")).eval().requires_grad_(False)  # type: ignore[arg-type]


@needs_proc
@pytest.mark.parametrize(
    ("name", "views", "width", "height"),
    [
        ("da3gs-nano", 3, 252, 168),
        pytest.param("da3-small", 2, 504, 336, marks=pytest.mark.slow),
        pytest.param("da3-small", 5, 392, 504, marks=pytest.mark.slow),
        pytest.param("da3-base", 2, 392, 504, marks=pytest.mark.slow),
    ],
)
@pytest.mark.process
def test_the_dry_run_foretells_peak_memory(name: str, views: int, width: int, height: int, tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", views, width, height)
    model = name if name == "da3gs-nano" else str(random_file(name, tmp_path))
    side = max(width, height)
    predicted = plan(source, model=model, views=views, resolution=side, poses="predicted")["memory_mb"] * 1e6
    measured = json.loads(child(MEASURED, source, model, views, side, "predicted"))
    assert predicted == pytest.approx(measured, rel=0.15)


@needs_proc
@pytest.mark.slow
@pytest.mark.process
def test_the_dry_run_foretells_peak_memory_of_stereo(tmp_path: Path) -> None:
    """Cameras are given: what stereo and its splats take decides, not the network."""
    small, _ = plane_scene(4)
    assert small.cameras is not None
    images = torch.nn.functional.interpolate(small.images, (756, 1008), mode="bicubic").clamp(0, 1)
    views = dataclasses.replace(small, images=images, cameras=small.cameras.resized(756, 1008))
    source = write_transforms(views, tmp_path / "posed")
    planned = plan(source, model="da3gs-nano", views=4, resolution=252)
    measured = json.loads(child(MEASURED, source, "da3gs-nano", 4, 252, "given"))
    assert planned["memory_mb"] * 1e6 == pytest.approx(measured, rel=0.15)
    assert planned["splats_at_most"] == 1_500_000


def test_only_tensors_that_live_together_count() -> None:
    def prepared() -> Any:
        start = torch.empty(1000)  # an input: not counted

        def work() -> torch.Tensor:
            for _ in range(5):
                start = torch.zeros(1000)  # 4000 bytes, and 4000 more for the sum, five times over
                total = start + 1
            view = total[:10]  # shares its storage
            return view

        del start
        return work

    # the old sum lives while the new zeros are made, and the old zeros have gone by then
    assert peak_of(prepared) in (8000, 12000)


def test_peak_grows_with_views_and_size(tiny: DepthAnything3) -> None:
    settings = Settings()
    sizes = [(2, 336, 504), (8, 336, 504), (32, 336, 504)]
    peaks = [predicted_peak(tiny, settings, views=v, height=h, width=w) for v, h, w in sizes]
    assert peaks == sorted(peaks)
    smaller = predicted_peak(tiny, settings, views=8, height=168, width=252)
    assert smaller < peaks[1]


def test_in_smaller_pieces_the_network_says_the_same_in_less_memory(tiny: DepthAnything3) -> None:
    images = torch.rand(1, 3, 3, 112, 140, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        usual = tiny.raw(images)
        with smaller_chunks(16):
            assert chunk(4096) == 256
            pieces = tiny.raw(images)
    torch.testing.assert_close(pieces.depth, usual.depth, rtol=1e-4, atol=1e-5)

    def prepared() -> Any:
        images = torch.empty(1, 8, 3, 112, 140)
        return lambda: tiny.raw(images)

    with smaller_chunks(16):
        less = peak_of(prepared)
    assert less < peak_of(prepared)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_memory_that_runs_out_once_costs_one_smaller_attempt(error: Exception) -> None:
    assert is_out_of_memory(error)
    sizes = []

    def work() -> str:
        sizes.append(chunk(4096))
        if len(sizes) == 1:
            raise error
        return "done"

    assert within_memory(work, lambda: "never said") == "done"
    assert sizes == [4096, 512]


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    def work() -> None:
        calls.append(0)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        within_memory(work, lambda: "")
    assert len(calls) == 1


def test_memory_that_runs_out_twice_is_one_clear_line(
    tiny: DepthAnything3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: object, **__: object) -> None:
        calls.append(chunk(8))
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("da3gs.pipeline.chunked_prediction.predict", fail)
    with pytest.raises(
        BackendError, match=r"out of memory with 2 views of 84x56: about .* GB are needed.*; "
    ) as caught:
        reconstruct(photos(tmp_path / "photos", 2, 84, 56), model=tiny, resolution=84, poses="predicted")
    assert calls == [8, 1]
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None  # nothing of the failed attempts is held


def test_what_fits_names_fewer_views_or_a_smaller_size(tiny: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3gs.pipeline.memory_estimate._available", lambda _: 300_000_000)
    line = what_fits(tiny, Settings(), views=32, height=336, width=504)
    views, side = (int(word) for word in line.split() if word.isdigit() and word not in ("32",))
    assert 1 <= views < 32
    assert 56 <= side < 504
    assert predicted_peak(tiny, Settings(), views=views, height=336, width=504) < 1.1 * 320_000_000


@needs_proc
@pytest.mark.process
def test_kept_memory_is_used_again() -> None:
    kept, usual = json.loads(child(KEPT))
    assert kept < 100 < usual


@needs_proc
@pytest.mark.slow
@pytest.mark.process
def test_a_limited_address_space_ends_in_one_line(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 12, 504, 336)
    said = child(LIMITED, source, 120_000_000)
    assert said.startswith("out of memory with 12 views of 504x336")
    assert said.count("\n") == 1
