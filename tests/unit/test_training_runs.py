"""Whole runs by the command: killed, resumed, spread over processes, started from other weights."""

import csv
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from da3gs.checkpoints import load_model
from da3gs.cli._session import complaint
from da3gs.errors import BackendError, CheckpointError, InputError
from da3gs.training import TrainConfig, train
from da3gs.training.config_files import load_config
from da3gs.training.step import Objective, training_step
from tests.unit.test_training_loop import TINY

LINE = re.compile(r"da3gs: error: [^\n]+")
ROOT = Path(__file__).parents[2]
TOML = """
preset = "smoke"
steps = {steps}
textures = 11
validate_steps = 0
log_steps = 1
save_seconds = 0.0
stages = [{{steps = 1, sizes = [[28, 42, 1.0]], pixels = 4704, views = [2, 2]}}]
"""


def config_file(folder: Path, steps: int) -> Path:
    path = folder / "tiny.toml"
    path.write_text(TOML.format(steps=steps))
    return path


def start(*words: str, ranks: int = 0) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks else []
    threads = {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "da3gs", "train", *words, "--quiet"],
        cwd=ROOT,
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(*words: str, ranks: int = 0) -> tuple[int, str]:
    process = start(*words, ranks=ranks)
    _, complaints = process.communicate(timeout=200)
    return process.returncode, complaints


def logged(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def wait_for_steps(run: Path, steps: int, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if (run / "log.csv").is_file() and len(logged(run)) >= steps and (run / "state.safetensors").is_file():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("the run does not get on")


@pytest.mark.slow
@pytest.mark.process
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    """kill -9 in the middle of a step or of a write; --resume; every tensor bit for bit."""
    config = str(config_file(tmp_path, 8))
    assert finish(config, "-o", str(tmp_path / "straight"))[0] == 0
    run = tmp_path / "killed"
    process = start(config, "-o", str(run))
    wait_for_steps(run, 3, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert load_model(run / "last.safetensors") is not None
    assert finish(config, "-o", str(run), "--resume") == (0, "")
    expected, found = (load_file(folder / "state.safetensors") for folder in (tmp_path / "straight", run))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rows = [[row["step"] for row in logged(folder)] for folder in (tmp_path / "straight", run)]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_share_gradients_or_weights(tmp_path):
    """DDP and FSDP2 with gloo: the same losses; what they leave is an ordinary checkpoint, for one process too."""
    config = str(config_file(tmp_path, 3))
    for mode in ("ddp", "fsdp"):
        run = str(tmp_path / mode)
        code, complaints = finish(config, "-o", run, "--set", f"parallel={mode}", ranks=2)
        assert code == 0, complaints
    ddp, fsdp = (logged(tmp_path / mode) for mode in ("ddp", "fsdp"))
    assert [row["images"] for row in ddp] == ["8", "16", "24"]
    for one, other in zip(ddp, fsdp, strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-3)
    weights = load_file(tmp_path / "fsdp" / "state.safetensors")
    assert weights.keys() == load_file(tmp_path / "ddp" / "state.safetensors").keys()
    code, complaints = finish(
        config, "-o", str(tmp_path / "fsdp"), "--resume", "--steps", "5", "--set", "parallel=fsdp", ranks=2
    )
    assert code == 0, complaints
    assert finish(config, "-o", str(tmp_path / "ddp"), "--resume", "--steps", "4") == (0, "")
    assert load_model(tmp_path / "fsdp" / "last.safetensors") is not None


@pytest.mark.slow
@pytest.mark.process
def test_a_lost_process_ends_the_run_with_a_line(tmp_path):
    """One of two processes is killed: the other says so in one line; the checkpoint is whole and --resume goes on."""
    config, run = str(config_file(tmp_path, 500)), tmp_path / "run"
    process = start(config, "-o", str(run), ranks=2)
    wait_for_steps(run, 3, process)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    ranks = [int(pid) for pid in children if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    os.kill(ranks[0], signal.SIGKILL)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode != 0
    lines = [line for line in complaints.splitlines() if LINE.match(line)]
    assert len(lines) == 1, complaints
    assert "another process of the run was lost" in lines[0]
    done = int(json.loads(json.dumps(_position(run)))["step"])
    assert finish(config, "-o", str(run), "--resume", "--steps", str(done + 2))[0] == 0


def _position(run: Path) -> dict:
    from safetensors import safe_open

    with safe_open(run / "state.safetensors", "pt") as file:
        return json.loads(file.metadata()["position"])


def test_a_loss_that_explodes_leaves_the_last_checkpoint(tmp_path):
    run = tmp_path / "run"
    train(TINY, run, steps=2)
    kept = (run / "state.safetensors").read_bytes()
    with pytest.raises(BackendError, match="the last checkpoint is intact: resume from it with a lower learning_rate"):
        train(_replaced(TINY, learning_rate=1e30, warm_up=1), run, steps=9, resume=True)
    assert (run / "state.safetensors").read_bytes() == kept
    assert train(TINY, run, resume=True)["step"] == 4


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(TINY, run, steps=2)
    kept = {name: (run / name).read_bytes() for name in ("state.safetensors", "last.safetensors")}

    def full(tensors: object, path: Path, **keywords: object) -> None:
        Path(path).write_bytes(b"a beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("da3gs.training.state.save_file", full)
        with pytest.raises(OSError, match="No space left") as caught:
            train(TINY, run, resume=True)
    assert complaint(caught.value) is not None
    assert {name: (run / name).read_bytes() for name in kept} == kept
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert train(TINY, run, resume=True)["step"] == 4
    assert [row["step"] for row in logged(run)] == ["2", "4"]


def test_an_official_checkpoint_starts_a_run(tmp_path):
    """Issue 6: a folder in the official layout, with weights by formula, and one step on from there."""
    from da3gs.network.config import named_config
    from tests.parity.fill import filled_weights

    folder = tmp_path / "DA3-SMALL"
    folder.mkdir()
    weights = filled_weights(named_config("da3-small"), "train")
    save_file(
        {f"model.{name}": torch.from_numpy(value) for name, value in weights.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"model_name": "da3-small"}))
    record = train(_replaced(TINY, steps=1, learning_rate=0.0), tmp_path / "run", init=folder, model="da3-small")
    assert record["step"] == 1
    model, start = load_model(tmp_path / "run" / "last.safetensors"), load_model(folder)
    assert model.config == start.config
    for name, value in start.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    with pytest.raises(CheckpointError, match="is another network than da3gs-nano"):
        train(TINY, tmp_path / "other", init=folder)


def _replaced(config: TrainConfig, **changes: object) -> TrainConfig:
    return dataclasses.replace(config, **changes)


def test_a_splat_head_grows_on_a_geometry_model(tmp_path):
    stage = _replaced(TINY.stages[0], sizes=((28, 42, 1.0),), targets=(1, 1))
    train(_replaced(TINY, steps=1), tmp_path / "geometry")
    splats = load_config("nano-splats")
    config = _replaced(splats, steps=2, stages=(stage,), textures=11, validate_steps=0, log_steps=1)
    start = tmp_path / "geometry" / "last.safetensors"
    train(config, tmp_path / "splats", init=start)
    before, after = load_model(start).state_dict(), load_model(tmp_path / "splats" / "last.safetensors").state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(name.startswith("splat_head.") for name in after)
    assert {"color", "structure", "psnr"} <= set(logged(tmp_path / "splats")[0])
    train(_replaced(config, steps=3), tmp_path / "splats", resume=True)


def test_a_teacher_labels_for_its_student(tmp_path):
    mono = load_config("mono-teacher")
    stage = _replaced(mono.stages[0], sizes=((28, 42, 1.0),), pixels=4 * 28 * 42)
    config = _replaced(
        mono, steps=2, stages=(stage,), textures=11, validate_steps=2, validation_scenes=1,
        validation_sizes=((28, 42),), log_steps=1, scenes=(("terrain", 1.0),),
    )  # fmt: skip
    record = train(config, tmp_path / "teacher")
    assert {"absrel", "delta1", "constant_absrel", "sky_iou"} == set(record["28x42"])
    teacher = str(tmp_path / "teacher" / "last.safetensors")
    train(_replaced(config, teacher=teacher, validate_steps=0), tmp_path / "student")
    rows = logged(tmp_path / "student")
    assert {"whole", "patches", "gradient", "normals", "sky"} <= set(rows[0])
    assert (tmp_path / "teacher" / "pictures" / "0000002.png").is_file()


def test_accumulated_batches_make_the_mean_gradient(tmp_path):
    from da3gs.network.model import DepthAnything3
    from da3gs.training.data.loader import Batches

    config = _replaced(TINY, bfloat16=False, accumulate=2)
    with Batches(config) as batches:
        one, two = batches.step(0)
    assert not torch.equal(one.images, two.images)
    gradients = []
    for chosen in ([one], [two], [one, two]):
        torch.manual_seed(0)
        model = DepthAnything3(config.network())
        training_step(Objective(model, config), torch.optim.SGD(model.parameters(), lr=0.0), chosen, 1e9)
        gradients.append(model.backbone.patch_embed.weight.grad)
    torch.testing.assert_close(gradients[2], (gradients[0] + gradients[1]) / 2, rtol=1e-4, atol=1e-6)


def test_cosine_falls_to_nothing():
    config = TrainConfig(name="x", learning_rate=1.0, warm_up=10, steps=110, schedule="cosine")
    assert config.rate(4) == pytest.approx(0.5)
    assert config.rate(60) == pytest.approx(0.5)
    assert config.rate(109) < 0.001


def test_single_settings():
    config = load_config(
        "smoke",
        settings=("learning_rate=1e-4", "weights.camera=0", "schedule=cosine", "architecture.backbone.global_from=2"),
    )
    assert (config.learning_rate, config.weights.camera, config.schedule) == (1e-4, 0.0, "cosine")
    assert config.network().backbone.global_from == 2
    assert load_config("smoke", settings=("architecture.head.shared=false",)).network().head.shared is False


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "is no NAME=VALUE"),
        ("colour=1", "unknown field 'colour'"),
        ("schedule=linear", "is not one of stable, cosine"),
        ("weights=1", "weights must be a table"),
        ("weights.depht=1", "depht"),
        ("architecture.backbone.depht=2", "is no field of the network"),
        ("architecture.backbone.depth=deep", "must be of kind int"),
        ("architecture.backbone.depth=4", "out_layers lie below the depth"),
        ("objective=splats", "has no splat head"),
        ("objective=monocular", "is an any-view model"),
        ('scenes=[["moon", 1.0]]', "is not one of room"),
        ("accumulate=0", "at least one batch"),
        ("stages=[{steps = 1, sizes = [[30, 42, 1.0]], pixels = 100}]", "multiples of 14"),
        ("stages=[{steps = 1, sizes = [], pixels = 100}]", "needs sizes"),
        ("stages=[{steps = 1, sizes = [[28, 42, 1.0]], pixels = 100, views = [3, 2]}]", "fewest and most"),
        ("stages=[{steps = 1, sizes = [[28, 42, 1.0]], pixels = 100, motion = [0.5, 0.1]}]", "fewest and most"),
    ],
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        load_config("smoke", settings=(setting,))
