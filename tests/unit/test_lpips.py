"""LPIPS against the reference package with the same random weights; never a number without the true ones."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from da3gs.errors import InputError
from da3gs.evaluation import perceptual
from da3gs.metrics.lpips import Lpips, TrunkName

NETS: dict[TrunkName, str] = {"vgg16": "vgg", "alexnet": "alex"}


def reference(name: TrunkName = "vgg16") -> torch.nn.Module:
    """``lpips.LPIPS`` with a random trunk; torchvision's import is helped over a missing operator."""
    if importlib.util.find_spec("lpips") is None or importlib.util.find_spec("torchvision") is None:
        pytest.skip("lpips or torchvision is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            globals()["_kept"] = library
        lpips = importlib.import_module("lpips")
        torch.manual_seed(0)
        return lpips.LPIPS(net=NETS[name], pnet_rand=True, verbose=False).eval()


def weights(module: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The trunk under torchvision's names, and the heads."""
    trunk = {}
    for name, value in module.net.state_dict().items():  # slice1.0.weight: the number is torchvision's
        _, number, kind = name.split(".")
        trunk[f"features.{number}.{kind}"] = value
    heads = {name: value for name, value in module.state_dict().items() if name.startswith("lin")}
    return trunk, heads


@pytest.mark.parametrize("name", NETS)
def test_the_reference_gives_the_same_number(name: TrunkName) -> None:
    theirs = reference(name)
    ours = Lpips(*weights(theirs), name=name)
    generator = torch.Generator().manual_seed(1)
    for height, width in ((64, 64), (70, 83)):
        a, b = torch.rand(2, height, width, 3, generator=generator)
        with torch.no_grad():
            expected = theirs(a.movedim(-1, 0)[None], b.movedim(-1, 0)[None], normalize=True)
        assert float(ours(a, b)) == pytest.approx(float(expected), rel=1e-5)
        assert float(ours(a, a)) == 0


def test_weights_that_do_not_fit() -> None:
    trunk, heads = weights(reference())
    with pytest.raises(KeyError):
        Lpips({}, heads)
    with pytest.raises(ValueError, match=r"features\.0\.weight"):
        Lpips({**trunk, "features.0.weight": torch.zeros(1)}, heads)


def test_no_trunk_is_a_reason_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path, reason = perceptual.find_trunk(None)
    assert path is None
    assert "vgg16-397923af.pth" in str(reason)
    with pytest.raises(InputError, match="does not exist"):
        perceptual.find_trunk(str(tmp_path / "nothing.pth"))
    (tmp_path / "checkpoints").mkdir()
    other = tmp_path / "checkpoints" / perceptual.FILES[0]
    other.write_bytes(b"random weights")
    path, reason = perceptual.find_trunk(None)
    assert path is None
    assert "cannot be read as weights" in str(reason)
    torch.save(weights(reference())[0], other)
    path, reason = perceptual.find_trunk(None)
    assert path is None
    assert "is not torchvision's vgg16" in str(reason)
    with pytest.raises(InputError, match="SHA-256"):
        perceptual.find_trunk(str(other))
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="neither VGG-16 nor AlexNet"):
        perceptual.find_trunk(str(tmp_path / "odd.safetensors"))


@pytest.mark.parametrize("name", NETS)
def test_the_wiring_from_a_file_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: TrunkName) -> None:
    """With the digest of a random trunk in place of the true one; heads from the installed package.

    The digest is of tensors: torchvision's .pth with its classifier and the convolutions alone are the same trunk.
    """
    theirs = reference(name)
    trunk, _ = weights(theirs)
    monkeypatch.setitem(perceptual.DIGESTS, name, perceptual.tensor_digest(trunk, name))
    whole, alone = tmp_path / "whole.pth", tmp_path / "alone.safetensors"
    torch.save(trunk | {"classifier.0.weight": torch.zeros(2)}, whole)
    save_file(trunk, alone)
    a, b = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(a.movedim(-1, 0)[None], b.movedim(-1, 0)[None], normalize=True)
    for file in (whole, alone):
        found, reason = perceptual.find_trunk(str(file))
        assert reason is None
        assert found is not None
        assert found.name == name
        perceptual.load_lpips.cache_clear()
        assert float(perceptual.load_lpips(found.file)(a, b)) == pytest.approx(float(expected), rel=1e-5)
    whole.write_bytes(b"\x80\x04cos\nsystem\n")
    perceptual.load_lpips.cache_clear()
    with pytest.raises(InputError, match="cannot be read as weights"):
        perceptual.load_lpips(whole)


def test_one_changed_weight_is_another_trunk() -> None:
    trunk, _ = weights(reference())
    digest = perceptual.tensor_digest(trunk, "vgg16")
    assert digest == perceptual.tensor_digest({k: v.double() for k, v in reversed(trunk.items())}, "vgg16")
    trunk["features.28.bias"][3] += 1e-6
    assert digest != perceptual.tensor_digest(trunk, "vgg16")
