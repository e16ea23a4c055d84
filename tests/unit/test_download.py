"""Downloading from a hub on loopback: what is fetched, checked, resumed, refused, and found again without it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from da3gs.checkpoints import load_model, zoo
from da3gs.checkpoints.convert import upstream_shapes
from da3gs.checkpoints.download import cached_folder, download_model, fetch_model, git_checksum, remote_model
from da3gs.checkpoints.pickled import verify_checkpoint
from da3gs.checkpoints.zoo import ModelCard
from da3gs.cli import main
from da3gs.errors import BackendError, CheckpointError, InputError
from da3gs.network.config import CONFIGS
from tests.unit.fake_hub import REVISION, FakeHub, serving
from tests.unit.test_checkpoints import tiny_config

CARD = ModelCard(
    name="tiny",
    config="tiny",
    repository="org/TINY",
    licence="CC-BY-NC-4.0",
    commercial=False,
    parameters=1,
    heads=("depth",),
    resolution=504,
    views=4,
    revision=REVISION,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An official repository of a tiny model."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    generator = torch.Generator().manual_seed(3)
    shapes = upstream_shapes(tiny_config(), aliases=False)
    save_file({f"model.{name}": torch.rand(shape, generator=generator) for name, shape in shapes.items()}, path)
    return {
        "config.json": json.dumps({"model_name": "tiny", "config": {}}).encode(),
        "model.safetensors": path.read_bytes(),
        "README.md": b"not needed",
        "pytorch_model.bin": b"never to be fetched",
    }


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub, with an empty cache of our own and the tiny model in the list."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setitem(zoo.MODELS, "tiny", CARD)
    monkeypatch.setitem(CONFIGS, "tiny", tiny_config())
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    with serving(FakeHub("org/TINY", dict(files))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def fetched(hub: FakeHub) -> list[str]:
    return [path.rpartition("/")[2] for _, path, _ in hub.asked if "/resolve/" in path]


def test_what_is_fetched_is_found_again_without_the_hub(
    hub: FakeHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cached_folder(CARD) is None
    folder = download_model(CARD)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(fetched(hub)) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    assert cached_folder(CARD) == folder
    assert load_model("tiny").config.name == "tiny"
    verified = verify_checkpoint(folder)
    assert verified["licence"] == "CC-BY-NC-4.0"
    assert verified["sha256"]["model.safetensors"] == (folder / "model.safetensors").resolve().name


def test_the_cache_is_that_of_hugging_face(hub: FakeHub) -> None:
    """Its own client finds our files in its cache, without a network."""
    from huggingface_hub import hf_hub_download

    folder = download_model(CARD)
    found = hf_hub_download("org/TINY", "model.safetensors", revision=REVISION, local_files_only=True,
                            cache_dir=str(folder.parents[2]))  # fmt: skip
    assert Path(found) == folder / "model.safetensors"


def test_files_of_other_programs_are_found(hub: FakeHub) -> None:
    cache = download_model(CARD).parents[2]
    shared = cache / "models--org--TINY"
    (shared / "snapshots" / REVISION).rename(shared / "snapshots" / ("f" * 40))
    assert cached_folder(CARD) == shared / "snapshots" / ("f" * 40)
    (shared / "snapshots" / ("f" * 40) / "config.json").unlink()
    assert cached_folder(CARD) is None


def test_nothing_is_fetched_twice(hub: FakeHub) -> None:
    download_model(CARD)
    hub.asked.clear()
    download_model(CARD)
    assert fetched(hub) == []


def test_a_connection_that_breaks_is_taken_up_again(hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.cut["model.safetensors"] = 1000
    folder = download_model(CARD)
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert [wanted for _, path, wanted in hub.asked if path.endswith(".safetensors")] == [None, "bytes=1000-"]


def test_a_connection_that_breaks_for_good_leaves_what_came(hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.lie["model.safetensors"] = files["model.safetensors"][:1000]  # a whole answer, but too short
    with pytest.raises(BackendError, match=r"broke off .* goes on where it stopped: da3gs models download tiny"):
        download_model(CARD)
    hub.lie.clear()
    assert (download_model(CARD) / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert hub.asked[-1][2] == "bytes=1000-"


def test_a_killed_download_goes_on_where_it_stopped(hub: FakeHub, files: dict[str, bytes]) -> None:
    remote = remote_model(CARD)
    weights = next(file for file in remote.files if file.name == "model.safetensors")
    blobs = Path(fetch_model(remote)).parents[1] / "blobs"
    (blobs / weights.checksum).rename(blobs / f"{weights.checksum}.da3gs.incomplete")
    with (blobs / f"{weights.checksum}.da3gs.incomplete").open("r+b") as part:
        part.truncate(500)
    hub.asked.clear()
    steps: list[tuple[str, int, int]] = []
    folder = fetch_model(remote, progress=lambda *step: steps.append(step))
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert [wanted for _, path, wanted in hub.asked if path.endswith(".safetensors")] == ["bytes=500-"]
    assert any(stage.startswith("downloading model.safetensors") for stage, _, _ in steps)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damage_on_the_way_is_noticed_and_not_kept(hub: FakeHub, files: dict[str, bytes], name: str) -> None:
    hub.lie[name] = bytes(len(files[name]))
    with pytest.raises(CheckpointError, match=rf"{name} of tiny arrived damaged .* try again"):
        download_model(CARD)
    assert cached_folder(CARD) is None
    hub.lie.clear()
    assert (download_model(CARD) / name).read_bytes() == files[name]


def test_damage_in_the_cache_is_noticed(hub: FakeHub) -> None:
    weights = (download_model(CARD) / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(CheckpointError, match="arrived damaged"):
        download_model(CARD)
    assert not weights.exists()


def test_shards(hub: FakeHub, files: dict[str, bytes], tmp_path: Path) -> None:
    from safetensors.torch import load, save

    tensors = load(hub.files.pop("model.safetensors"))
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        hub.files[file] = save({name: tensors[name] for name in part})
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    folder = download_model(CARD)
    assert len(list(folder.iterdir())) == 4
    assert load_model("tiny").config.name == "tiny"
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert cached_folder(CARD) is None


def test_another_file_than_the_known_one_is_refused(hub: FakeHub) -> None:
    import dataclasses

    with pytest.raises(CheckpointError, match=r"has SHA-256 .* not aaaaaaaaa"):
        remote_model(dataclasses.replace(CARD, sha256="a" * 64))
    assert fetched(hub) == []


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, CheckpointError, "is not there, or not for everyone"),
        (404, CheckpointError, "is not there, or not for everyone"),
        (503, BackendError, "answers 503 for org/TINY; try again later"),
    ],
)
def test_a_hub_that_refuses(hub: FakeHub, status: int, error: type[Exception], said: str) -> None:
    hub.status = status
    with pytest.raises(error, match=said) as caught:
        download_model(CARD)
    assert "\n" not in str(caught.value)


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert main(["models", "download", "tiny"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "cannot be reached" in err
    assert "https://huggingface.co/org/TINY" in err
    assert "--model" in err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackendError, match="HF_HUB_OFFLINE is set"):
        download_model(CARD)


def test_no_room(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(BackendError, match=r"tiny needs .* MB of disk and 1 MB are free"):
        download_model(CARD)
    assert fetched(hub) == []


def test_the_bundled_model_needs_no_download() -> None:
    with pytest.raises(InputError, match="comes with da3gs"):
        download_model(zoo.MODELS["da3gs-nano"])


def test_the_licence_comes_first(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.lie["model.safetensors"] = b"x" * len(hub.files["model.safetensors"])
    assert main(["models", "download", "tiny"]) == 2
    out, _ = capfd.readouterr()
    assert out.startswith("tiny: licence CC-BY-NC-4.0, NO commercial use")  # although the download failed
    hub.lie.clear()
    assert main(["models", "download", "tiny", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["licence"] == "CC-BY-NC-4.0"
    assert record["revision"] == REVISION
    assert list(record["sha256"]) == ["model.safetensors"]


def test_git_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert git_checksum(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_every_official_model_has_a_pinned_revision() -> None:
    official = [card for card in zoo.MODELS.values() if card.repository]
    assert len(official) == 10
    assert all(card.revision and len(card.revision) == 40 for card in official)
    assert len({card.revision for card in official}) == 10
    assert sys.version_info >= (3, 11)
