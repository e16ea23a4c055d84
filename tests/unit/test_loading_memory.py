"""How much memory loading takes: a child process loads a true-size file of random weights and tells its own peak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from da3gs.checkpoints.convert import upstream_shapes
from da3gs.network.config import CONFIGS

CHILD = """
import json, sys, threading, time
import torch, safetensors.torch
import da3gs.checkpoints
from da3gs.checkpoints.load import load_model

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))

before, peak, done = resident(), [0], threading.Event()

def watch():
    while not done.is_set():
        peak[0] = max(peak[0], resident())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
peak[0] = max(peak[0], resident())
done.set()
thread.join()
held = {str(p.dtype): sum(q.numel() * q.element_size() for q in model.parameters() if q.dtype == p.dtype)
        for p in model.parameters()}
print(json.dumps({"peak": peak[0] - before, "held": held}))
"""

if not Path("/proc/self/status").exists():
    pytest.skip("resident memory is read from Linux's /proc", allow_module_level=True)


def official_file(name: str, folder: Path) -> Path:
    """An official file of random weights."""
    generator = torch.Generator().manual_seed(0)
    shapes = upstream_shapes(CONFIGS[name], aliases=False)
    tensors = {f"model.{key}": torch.rand(shape, generator=generator) for key, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def loaded(path: Path, dtype: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), dtype], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return {"peak": answer["peak"] / path.stat().st_size, "held": sum(answer["held"].values()) / path.stat().st_size}


@pytest.mark.parametrize(
    "name",
    [
        "da3-small",
        pytest.param("da3-base", marks=pytest.mark.slow),
        pytest.param("da3-large", marks=pytest.mark.slow),
    ],
)
@pytest.mark.process
def test_resident_memory_while_loading(name: str, tmp_path: Path) -> None:
    """Mapped weights are resident once; what is converted is there once, and one tensor twice.

    15 % of the file, or 32 MB where that is more: modules, names and what torch sets up at the first load cost some
    20 MB whatever the file, which da3-small's 131 MB would hide in no 15 %.
    """
    path = official_file(name, tmp_path)
    spare = max(0.15, 32e6 / path.stat().st_size)
    assert loaded(path, "float32")["peak"] <= 1 + spare
    for dtype in ("bfloat16", "float16"):
        low = loaded(path, dtype)
        assert low["held"] < 0.85  # the backbone's matrices take half
        assert low["peak"] <= low["held"] + spare
