"""ONNX files: what onnxruntime computes from one is what the network computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from da3gs.checkpoints.onnx import export_onnx
from da3gs.cli import main
from da3gs.errors import InputError
from da3gs.network.model import DepthAnything3
from da3gs.views import Views
from tests.unit.test_checkpoints import tiny_config


@pytest.fixture(scope="module")
def tiny() -> DepthAnything3:
    """A network of the official kind, small, with weights that say something everywhere."""
    torch.manual_seed(0)
    network = DepthAnything3(tiny_config(splats=False)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("count", [1, 2, 4])
def test_onnxruntime_computes_the_same(tiny: DepthAnything3, tmp_path: Path, count: int) -> None:
    """To 1e-3 of the values, as official users ask; three views and more choose a reference on the way."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime")
    record = export_onnx(tiny, tmp_path / "tiny.onnx", views=count, height=42, width=56)
    assert record["outputs"] == ["depth", "confidence", "world_to_cam", "intrinsics"]
    session = runtime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    for seed in range(2):
        images = torch.rand(count, 3, 42, 56, generator=torch.Generator().manual_seed(5 + seed))
        with torch.inference_mode():
            told = tiny(Views(images=images, names=tuple(map(str, range(count)))))
        true = (told.depth, told.confidence, told.cameras.world_to_cam, told.cameras.intrinsics)
        for value, found in zip(true, session.run(None, {"images": images.numpy()}), strict=True):
            torch.testing.assert_close(torch.from_numpy(found), value, rtol=1e-3, atol=1e-3 * float(value.abs().max()))


def test_what_cannot_be_written_is_said(tiny: DepthAnything3, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.onnx, got tiny\.pt"):
        export_onnx(tiny, tmp_path / "tiny.pt", views=2, height=42, width=56)
    with pytest.raises(InputError, match="multiples of 14, got 57x42"):
        export_onnx(tiny, tmp_path / "tiny.onnx", views=2, height=42, width=57)


def test_the_command_refuses_before_it_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["da3-small"], "models export needs -o FILE.onnx"),
        (["da3-small", "-o", str(tmp_path / "a.pth")], "an ONNX file ends in .onnx, got a.pth"),
    ):
        assert main(["models", "export", *words]) == 2
        assert said in capsys.readouterr().err
