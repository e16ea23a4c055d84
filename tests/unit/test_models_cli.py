"""Converting and verifying weights, and what `da3gs models` says."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from da3gs.checkpoints import checkpoint_card, load_model, save_checkpoint
from da3gs.checkpoints.convert import to_upstream_names, upstream_shapes
from da3gs.checkpoints.load import guessed_config
from da3gs.checkpoints.pickled import convert_checkpoint, named_card, verify_checkpoint
from da3gs.cli import main
from da3gs.errors import CheckpointError, InputError
from da3gs.network import DepthAnything3
from da3gs.network.config import CONFIGS
from da3gs.pipeline.model_loading import card_of
from tests.unit.test_checkpoints import tiny_config


@pytest.fixture(autouse=True)
def tiny_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny network counts as a published configuration."""
    monkeypatch.setitem(CONFIGS, "tiny", tiny_config())


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Official names and random weights."""
    generator = torch.Generator().manual_seed(5)
    shapes = upstream_shapes(tiny_config())
    tensors = {f"model.{name}": torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    for level in (1, 2, 3):  # tied in the official code
        for kind in ("weight", "bias"):
            name = "model.head.scratch.output_conv2_aux.{}.2." + kind
            tensors[name.format(level)] = tensors[name.format(0)]
    return tensors


def same(model: DepthAnything3, state: dict[str, torch.Tensor]) -> bool:
    return all(
        torch.equal(value, state[f"model.{to_upstream_names(name)[0]}"]) for name, value in model.state_dict().items()
    )


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "parallel", "legacy"])
def test_pickled_weights_are_converted(state: dict[str, torch.Tensor], tmp_path: Path, wrap: str) -> None:
    source, output = tmp_path / "old.pth", tmp_path / "new.safetensors"
    match wrap:
        case "plain":
            torch.save(state, source)
        case "state_dict":
            torch.save({"epoch": 3, "state_dict": state, "args": {"lr": 0.1}}, source)
        case "parallel":
            torch.save({"model": {f"module.{name}": t for name, t in state.items()}}, source)
        case "legacy":
            torch.save(state, source, _use_new_zipfile_serialization=False)
    record = convert_checkpoint(source, output)
    assert record["parameters"] == sum(p.numel() for p in DepthAnything3(tiny_config()).parameters())
    model = load_model(output)
    assert isinstance(model, DepthAnything3)
    assert same(model, state)


class Malicious:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.path, "pwned"))


def test_code_in_pickled_files_never_runs(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({"state_dict": state, "hook": Malicious(mark)}, tmp_path / "zip.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Malicious(mark)))
    for name in ("zip.pt", "bare.pt"):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            convert_checkpoint(tmp_path / name, tmp_path / "out.safetensors")
    assert not mark.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_pickled_files_that_lie_about_sizes(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Tensors larger than their storage (strides of 0), compressed members, damage: refused before memory is used."""
    name = "model.cam_dec.fc_t.bias"
    torch.save({**state, name: torch.zeros(1).expand(1 << 40)}, tmp_path / "huge.pt")
    torch.save(state, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(tmp_path / "packed.pt", "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item), compress_type=zipfile.ZIP_DEFLATED)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "plain.pt").read_bytes()[:-3000])
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": torch.ones(3).to_sparse()}, tmp_path / "sparse.pt")
    for file, said in (
        ("huge.pt", "fits no known model"),
        ("packed.pt", "compressed"),
        ("cut.pt", "cannot be read|damaged|may run code"),
        ("text.pt", "cannot be read|may run code"),
        ("list.pt", "no tensors by name"),
        ("sparse.pt", "no plain tensor|may run code|cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=said) as error:
            convert_checkpoint(tmp_path / file, tmp_path / "out.safetensors")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_official_folders_and_cards(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    folder = tmp_path / "TINY"
    folder.mkdir()
    save_file({n: t.clone() for n, t in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_name": "tiny"}')
    record = convert_checkpoint(folder, tmp_path / "a.safetensors")
    assert record["licence"] == "unknown"  # no published model has this configuration
    assert not record["commercial"]
    own = {"name": "mine", "licence": "MIT", "commercial": True, "resolution": 280, "views": 3}
    save_checkpoint(load_model(folder), tmp_path / "b.safetensors", card=own)
    convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.safetensors", dtype=torch.float16)
    assert checkpoint_card(tmp_path / "c.safetensors") == own
    card = card_of(load_model(tmp_path / "c.safetensors"), tmp_path / "c.safetensors")
    assert (card.name, card.licence, card.commercial, card.resolution, card.views) == ("mine", "MIT", True, 280, 3)


def test_the_licence_of_official_folders_is_known() -> None:
    large = named_card(Path("/models/DA3-LARGE-1.1"), "da3-large")
    assert large is not None
    assert (large.name, large.commercial) == ("da3-large-1.1", False)
    cached = named_card(Path("/c/models--depth-anything--DA3-GIANT-1.1/snapshots/abc/model.safetensors"), "da3-giant")
    assert cached is not None
    assert cached.name == "da3-giant-1.1"
    assert named_card(Path("/models/whatever"), "da3-base") is not None
    assert named_card(Path("/models/whatever"), "unheard-of") is None


@pytest.mark.parametrize("told", [{"licence": 7, "commercial": "no", "views": "x", "resolution": []}, {"views": 0}])
def test_cards_of_files_are_not_trusted(told: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(DepthAnything3(tiny_config()), path, card=told)
    card = card_of(load_model(path), path)
    assert not card.commercial
    assert card.views >= 1
    assert card.resolution == 504


def test_convert_refuses_bad_outputs(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "old.pt")
    (tmp_path / "there.safetensors").write_text("mine")
    for source, output, said in (
        ("old.pt", "new.pt", "not named"),
        ("old.pt", "there.safetensors", "exists already"),
        ("none.pt", "new.safetensors", "does not exist"),
        ("old.pt", "no/new.safetensors", "folder"),
    ):
        with pytest.raises(InputError, match=said):
            convert_checkpoint(tmp_path / source, tmp_path / output)
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_verify(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = DepthAnything3(tiny_config()).eval()
    path = tmp_path / "a.safetensors"
    save_checkpoint(model, path, card={"name": "tiny", "licence": "MIT", "commercial": True})
    record = verify_checkpoint(path)
    assert record["tensors"] == len(model.state_dict())
    assert main(["models", "verify", str(path), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["sha256"] == record["sha256"]
    assert main(["models", "verify", str(path)]) == 0
    assert "all finite" in capfd.readouterr().out
    with torch.no_grad():
        model.depth_head.depth_neck.bias[0] = torch.nan
    save_checkpoint(model, path, overwrite=True)
    assert main(["models", "verify", str(path)]) == 2
    assert "not finite in head.scratch.output_conv1.bias" in capfd.readouterr().err


def test_a_file_in_the_cache_that_was_changed(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """The cache names large files by their SHA-256."""
    folder = tmp_path / "snapshots" / "abc"
    folder.mkdir(parents=True)
    blob = tmp_path / ("0" * 64)
    save_file({n: t.clone() for n, t in state.items()}, blob)
    (folder / "model.safetensors").symlink_to(blob)
    (folder / "config.json").write_text('{"model_name": "tiny"}')
    with pytest.raises(CheckpointError, match=r"SHA-256 .* not 000000000"):
        verify_checkpoint(folder)


def test_convert_on_the_command_line(
    state: dict[str, torch.Tensor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save(state, tmp_path / "old.pt")
    output = tmp_path / "new.safetensors"
    assert main(["models", "convert", str(tmp_path / "old.pt"), "-o", str(output), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["file"] == str(output)
    assert main(["models", "convert", str(tmp_path / "old.pt"), "-o", str(output)]) == 2
    assert "exists already" in capfd.readouterr().err
    assert main(["models", "convert", str(tmp_path / "old.pt")]) == 2
    assert "needs -o" in capfd.readouterr().err


def test_list_commercial(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--commercial", "--json"]) == 0
    cards = json.loads(capfd.readouterr().out)["models"]
    names = {card["name"] for card in cards}
    assert names == {"da3gs-nano", "da3-small", "da3-base", "da3mono-large", "da3metric-large"}
    assert all(card["commercial"] for card in cards)
    assert main(["models"]) == 0
    assert "CC-BY-NC-4.0" in capfd.readouterr().out


def test_models_that_differ_in_nothing_but_weights_are_told_by_name(tmp_path: Path) -> None:
    shapes = {
        f"model.{name}": shape for name, shape in upstream_shapes(CONFIGS["da3metric-large"], aliases=False).items()
    }
    for name in ("da3metric-large", "da3mono-large"):
        assert guessed_config(shapes, tmp_path / name.upper() / "model.safetensors").name == name
    with pytest.raises(
        CheckpointError, match=r"may be da3mono-large and da3metric-large, .* put the official config\.json"
    ):
        guessed_config(shapes, tmp_path / "model.safetensors")


@pytest.mark.process
def test_the_list_needs_no_torch() -> None:
    code = "import sys; from da3gs.cli import main; main(['models']); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "False"
    assert "da3-base" in done.stdout
