"""The quality benchmark: novel views of held-out scenes between a copied photo and true depth; the card made of it."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.quality import repeating
from benchmarks.quality_card import aim_text, figures_text, read_curve, thinned, write_card
from benchmarks.quality_scenes import (
    CONTEXT,
    WAYS,
    context_of,
    exam_of,
    held_out,
    knowing,
    mean,
    network_views,
    references,
    scene_rows,
    share,
)  # fmt: skip
from da3gs._files import sha256
from da3gs.checkpoints import MODELS, load, save_checkpoint
from da3gs.checkpoints.zoo import bundled_card
from da3gs.network.model import DepthAnything3
from da3gs.pipeline.memory_estimate import predicted_peak
from da3gs.pipeline.model_loading import LoadedModel, loaded_model
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Settings
from da3gs.training.data.batch import Batch
from da3gs.training.networks import trainable_network
from da3gs.training.run_log import append
from da3gs.training.validation import validate

SIZE = (84, 112)


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    """Two scenes, small."""
    return held_out(2, SIZE)


@pytest.fixture(scope="module")
def splat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained bundled model with a Gaussian head."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "da3gs-nano.safetensors"
    network = DepthAnything3(trainable_network("da3gs-nano-splats", {}))
    save_checkpoint(network, path, card={"name": "da3gs-nano", "licence": "Apache-2.0"}, dtype=torch.float16)
    return path


def test_true_depth_beats_one_depth_and_a_perfect_network_reaches_it(batches):
    """The network's depth becomes the very splats of the bound, whichever frame its cameras are in."""
    model = knowing(batches)
    sums: dict[str, dict[str, float | None]] = {"given": {}, "predicted": {}}
    with torch.inference_mode():
        exams = [exam_of(batch) for batch in batches]
        known = [references(exam) for exam in exams]
        for poses in ("given", "predicted"):
            made = [network_views(model, exam, poses, "auto") for exam in exams]
            for part in (known, made):
                sums[poses] |= {way: mean(value for scores in part for value in scores[way]) for way in part[0]}
    for poses, means in sums.items():
        assert means["true_depth"] > means["constant_depth"] + 3
        assert means["true_depth"] > means["nearest_photo"] + 3
        assert means["depth"] == pytest.approx(means["true_depth"], abs=0.05)
        assert "head" not in means
        # with given poses reconstruct lays depth on the photos, which costs where it is right already
        assert share(means) > {"given": 0.5, "predicted": 0.8}[poses]
    assert all(0.2 < float(exam.seen.float().mean()) <= 1 for exam in exams)
    for posed in (False, True):
        figures = validate(model.network, [context_of(b) for b in batches], posed=posed)  # type: ignore[arg-type]
        assert figures.absrel < 1e-4 < figures.constant_absrel
        assert figures.auc5 > 0.98
        assert figures.auc30 > figures.auc5


def test_targets_are_not_seen_and_the_context_is_the_first_views(batches):
    batch = batches[0]
    context = context_of(batch)
    assert (batch.context, context.context, context.targets) == (CONTEXT, CONTEXT, 0)
    assert len(exam_of(batch).posed.views) == CONTEXT
    assert exam_of(batch).unposed.views.cameras is None
    assert torch.equal(context.images, batch.images[:, :CONTEXT])


def test_a_bundled_file_with_a_gaussian_head_works_everywhere(batches, splat_file, monkeypatch):
    """By its name: the card, the plan of memory, reconstruct with each way of splats, and the benchmark."""
    card = bundled_card(splat_file)
    assert card.heads == ("depth", "rays", "cameras", "splats")
    assert bundled_card(splat_file.with_name("none.safetensors")).heads == ("depth", "rays", "cameras")
    assert loaded_model(splat_file, Settings()).card.heads == card.heads
    monkeypatch.setitem(MODELS, "da3gs-nano", card)
    monkeypatch.setattr(load, "weights_of", lambda _: splat_file)
    model = loaded_model("da3gs-nano", Settings())
    assert model.card is card
    assert card.parameters == sum(p.numel() for p in model.network.parameters())
    # foretelling memory runs the head on tensors without values, none of which may be left over for what follows
    assert predicted_peak(model.network, Settings(), views=1, height=84, width=112) > 4 * card.parameters
    exam = exam_of(batches[0])
    bands = {s: reconstruct(exam.unposed, model=model, splats=s).gaussians for s in ("auto", "depth")}
    assert bands["auto"].harmonics.shape[1:] == (4, 3)
    assert bands["depth"].harmonics.shape[1:] == (1, 3)
    (row,) = scene_rows(model, (56, 84), ("given",), scenes=1)
    assert all(isinstance(row[way], float) for way in WAYS)
    assert row["gain"] == pytest.approx(row["reconstruct"] - row["nearest_photo"], abs=0.002)


def test_the_share_is_the_way_from_the_copy_to_the_bound():
    means = {"nearest_photo": 15.0, "reconstruct": 19.0, "true_depth": 20.0}
    assert share(means) == 0.8
    assert share({**means, "true_depth": 14.0}) is None


def scene_table() -> dict:
    """A saved table of one size."""
    row = {
        "size": "168x252", "poses": "given", "scenes": 24, "nearest_photo": 15.25, "constant_depth": 17.1,
        "depth": 18.3, "head": None, "reconstruct": 19.84, "true_depth": 21.6, "gain": 4.59, "share": 0.723,
        "absrel": 0.2345, "constant_absrel": 0.311, "delta1": 0.61, "rotation": 4.44, "direction": 8.12,
        "auc5": 0.123, "auc30": 0.678,
    }  # fmt: skip
    return {"command": "python -m benchmarks.quality --what scenes", "rows": [row], "remarks": []}


def photo_table() -> dict:
    """A saved table of one set at two resolutions."""
    row = {"set": "desk", "poses": "given", "resolution": 252, "psnr_holdout": 27.34, "psnr_nearest_photo": 19.56}
    rows = [row, {**row, "resolution": 504, "psnr_holdout": None}]
    return {"command": "python -m benchmarks.quality --sets FOLDER", "rows": rows, "remarks": []}


def test_the_card_contains_the_figures():
    text = figures_text(scene_table(), photo_table())
    assert "| 168x252 | given | 15.2 | 17.1 | 18.3 | 19.8 | 21.6 | 72 % |" in text
    assert "| 168x252 | given | 0.234 | 0.311 | 0.610 | 4.4° | 8.1° | 0.123 | 0.678 |" in text
    assert "| desk | given | 27.3 (19.6) | - (19.6) |" in text
    assert "With given poses not reached: +4.6 dB and 72 % at 168x252." in text
    assert "`python -m benchmarks.quality --what scenes`" in text
    assert "its head" not in text
    with_head = scene_table()
    with_head["rows"][0] |= {"head": 18.88, "share": 0.81}
    assert "| 18.9 | 19.8 | 21.6 | 81 % |" in figures_text(with_head, photo_table())
    assert "given poses reached" in aim_text(with_head["rows"])


def test_the_curve_says_whether_more_pictures_help(tmp_path):
    """AbsRel falls by a tenth with the last doubling, then by nothing."""
    for step, absrel in ((10, 0.4), (20, 0.3), (40, 0.27), (80, 0.27)):
        append(tmp_path / "log.csv", {"step": step, "images": 100 * step})
        for posed in (0, 1):
            append(
                tmp_path / "validation.csv", {"step": step, "size": "84x112", "posed": posed, "absrel": absrel + posed}
            )
    curve = read_curve(tmp_path / "validation.csv")
    assert curve[0] == {"images": 1000, "size": "84x112", "absrel": 0.4}
    assert thinned([row["images"] for row in curve]) == [1000, 2000, 4000, 8000]
    flat = figures_text(scene_table(), photo_table(), curve)
    assert "| 4,000 | 0.270 |" in flat
    assert "no longer helps" in flat
    falling = figures_text(scene_table(), photo_table(), curve[:3])
    assert "From 2,000 to 4,000 pictures it fell by 10.0 % at 84x112: longer training still helps." in falling


def test_only_figures_of_these_weights_come_on_the_card(tmp_path, splat_file):
    weights = tmp_path / "da3gs-nano.safetensors"
    weights.write_bytes(splat_file.read_bytes())
    weights.with_suffix(".md").write_text("# da3gs-nano\n\nTold by somebody.\n\n## Figures\n\nobsolete\n")
    paths = [tmp_path / "scenes.json", tmp_path / "photos.json"]
    for path, table in zip(paths, (scene_table(), photo_table()), strict=True):
        path.write_text(json.dumps(table))
    with pytest.raises(SystemExit, match="was not measured with da3gs-nano"):
        write_card(*paths, weights=weights)
    for path, table in zip(paths, (scene_table(), photo_table()), strict=True):
        path.write_text(json.dumps({**table, "remarks": [f"Weights: SHA-256 {sha256(weights)}."]}))
    text = write_card(*paths, weights=weights)
    assert weights.with_suffix(".md").read_text() == text
    assert text.startswith("# da3gs-nano\n\nTold by somebody.\n\n## Figures\n\nNovel views of 24")
    assert "obsolete" not in text


def test_a_column_that_came_later_leaves_an_older_log_straight(tmp_path):
    """auc5 stands before auc30; the validation.csv of a run begun before it has no such column."""
    path = tmp_path / "validation.csv"
    append(path, {"step": 1, "direction": 2.0, "auc30": 0.5})
    append(path, {"step": 2, "direction": 1.0, "auc5": 0.1, "auc30": 0.6})
    assert path.read_text().splitlines() == ["step,direction,auc30", "1,2.0,0.5", "2,1.0,0.6"]


def test_a_model_of_several_branches_is_refused(batches):
    from da3gs.errors import InputError

    model = LoadedModel(network=nn.Identity(), card=dataclasses.replace(MODELS["da3gs-nano"], name="other"))
    with pytest.raises(InputError, match="other is no any-view model"):
        network_views(model, exam_of(batches[0]), "given", "auto")


def test_a_saved_command_names_no_folder_of_this_machine():
    words = ["--what", "scenes", "--model=/home/me/last.safetensors", "--out", "/tmp/x", "--scenes", "8", "--save", "y"]
    assert repeating(words) == ["--what", "scenes", "--model", "last.safetensors", "--scenes", "8"]
