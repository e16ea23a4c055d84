"""The exported page: what it holds, what it may do, and that no text from a file becomes markup."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats import load_gaussians, save_gaussians
from da3gs.formats.splats.html import PageView, save_html
from da3gs.gaussians import Gaussians
from da3gs.pipeline.export import export
from tests.small_scene import small_gaussians, small_scene

STRANGE = "</script><img src=x onerror=\"document.title='owned'\">'&amp;\u2028\x00<!--"


class Parsed(html.parser.HTMLParser):
    """The elements of a page, with what is said in them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text.append("")
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text[-1] += data

    def only(self, tag: str, **attributes: str) -> str:
        """The text of the one element like this."""
        found = [
            text
            for (name, have), text in zip(self.elements, self.text, strict=True)
            if name == tag and attributes.items() <= have.items()
        ]
        assert len(found) == 1
        return found[0]


def view(name: str) -> PageView:
    return PageView(
        name=name, height=30, width=40, intrinsics=np.diag([50.0, 50.0, 1.0]), cam_to_world=np.eye(4), distance=2.0
    )


def test_the_page_may_do_nothing_but_run_its_own_script(tmp_path: Path) -> None:
    save_html(small_gaussians(), tmp_path / "a.html")
    page = Parsed(tmp_path / "a.html")
    [policy] = [
        attributes["content"] for _, attributes in page.elements if "content-security" in str(attributes).lower()
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["worker-src"] == "blob:"
    scripts = [
        text
        for (tag, attributes), text in zip(page.elements, page.text, strict=True)
        if tag == "script" and "type" not in attributes
    ]
    for rule, text in (("script-src", scripts), ("style-src", [page.only("style")])):
        assert len(text) == 1
        digest = base64.b64encode(hashlib.sha256(text[0].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    for tag, attributes in page.elements:
        assert tag not in ("img", "link", "iframe", "object", "embed", "base", "a", "form")
        assert not any(name.startswith("on") or name in ("style", "src", "href") for name in attributes)
    assert "http://" not in scripts[0]
    assert "https://" not in scripts[0]
    order = [attributes.get("http-equiv") or tag for tag, attributes in page.elements]
    assert order.index("Content-Security-Policy") < min(order.index("style"), order.index("script"))


def test_texts_are_only_ever_text(tmp_path: Path) -> None:
    save_html(small_gaussians(), tmp_path / "a.html", views=[view(STRANGE)], title=STRANGE, note=STRANGE)
    page = Parsed(tmp_path / "a.html")
    assert "img" not in [tag for tag, _ in page.elements]
    plain = Parsed(tmp_path / "a.html")
    save_html(small_gaussians(), tmp_path / "b.html", views=[view("b")], title="b", note="b")
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in Parsed(tmp_path / "b.html").elements]
    shown = " ".join(STRANGE.replace("\x00", " ").split())
    assert page.only("title") == page.only("h1") == shown
    scene = page.only("script", id="scene")
    assert "<" not in scene
    assert json.loads(scene)["views"][0]["name"] == shown


def test_placeholders_in_a_title_stay_what_they_are(tmp_path: Path) -> None:
    save_html(small_gaussians(), tmp_path / "a.html", title="@SPLATS@ @SCRIPT@")
    assert Parsed(tmp_path / "a.html").only("title") == "@SPLATS@ @SCRIPT@"
    assert len(load_gaussians(tmp_path / "a.html")) == 300


@pytest.mark.parametrize("bands", [1, 16])
def test_the_splats_are_those_of_sog(tmp_path: Path, bands: int) -> None:
    splats = small_gaussians(20_000, bands)
    save_gaussians(splats, tmp_path / "a.sog")
    save_gaussians(splats, tmp_path / "a.html")
    save_gaussians(small_gaussians(1, bands), tmp_path / "player.html")
    a, b = load_gaussians(tmp_path / "a.sog"), load_gaussians(tmp_path / "a.html")
    for name in ("means", "scales", "quaternions", "opacities"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert torch.equal(a.harmonics[:, 0], b.harmonics[:, 0])
    # a page has a palette of fewer harmonics
    assert (b.harmonics - a.harmonics).square().mean() < a.harmonics.square().mean()  # and says something all the same
    size, player = ((tmp_path / name).stat().st_size for name in ("a.html", "player.html"))
    assert player < 65_000
    assert size < 1.34 * (tmp_path / "a.sog").stat().st_size + player


def test_a_scene_opens_at_its_photos(tmp_path: Path) -> None:
    scene = small_scene()
    scene = dataclasses.replace(scene, record={**scene.record, "model": {"name": "<b>", "licence": "free"}})
    export(scene, tmp_path / "walk.html")
    page = Parsed(tmp_path / "walk.html")
    assert page.only("title") == "walk"
    assert "model <b>, licence of the model: free" in " ".join(page.text)
    told = json.loads(page.only("script", id="scene"))
    assert (told["up"], told["axes"]) == ([0, -1, 0], "RDF")
    for index, entry in enumerate(told["views"]):
        height, width = scene.views.sizes[index]
        assert (entry["name"], entry["height"], entry["width"]) == (f"photo {index}", height, width)
        pose = scene.cameras.cam_to_world[index].numpy()
        assert np.allclose(entry["position"], pose[:3, 3], atol=1e-6)
        assert np.allclose(np.reshape(entry["rotation"], (3, 3)), pose[:3, :3], atol=1e-6)
        assert [entry[key] for key in ("fx", "fy", "cx", "cy")] == [60, 62, 27, 22]
        assert 1.5 < entry["distance"] < 3.5  # the ball round the origin


def test_bare_splats_are_seen_from_outside(tmp_path: Path) -> None:
    for splats in (small_gaussians(), small_gaussians(1)):
        save_html(splats, tmp_path / "a.html", overwrite=True)
        [entry] = json.loads(Parsed(tmp_path / "a.html").only("script", id="scene"))["views"]
        assert entry["distance"] > 0
    save_html(small_gaussians(), tmp_path / "a.html", overwrite=True)
    [entry] = json.loads(Parsed(tmp_path / "a.html").only("script", id="scene"))["views"]
    local = (small_gaussians().means.numpy() - entry["position"]) @ np.reshape(entry["rotation"], (3, 3))
    pixels = entry["fx"] * local[:, :2] / local[:, 2:] + entry["cx"]
    assert ((pixels > 0) & (pixels < entry["width"])).all(1).mean() > 0.9
    assert (local[:, 2] > 0).all()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    bad: Gaussians = small_gaussians()
    bad.means[0, 0] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        save_html(bad, tmp_path / "a.html")
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        save_html(small_gaussians(), tmp_path / "mine.html")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
    with pytest.raises(InputError, match="not a splat file"):
        load_gaussians(tmp_path / "mine.html")
