"""report.html: one file that asks nobody for anything.

A Content-Security-Policy allows pictures inside the file, this style and this script by their hashes, and nothing else;
every word from data is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from typing import Any

_WORST, _BEST = 12, 6
_PICTURE = re.compile(r"data:image/jpeg;base64,[0-9A-Za-z+/=]+")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bad: #c33; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.note { opacity: .75; } .grey { opacity: .5; } .bad { color: var(--bad); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; }
.scroll { max-height: 60rem; overflow: auto; }
.key { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.2rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; background: var(--soft); }
.pair { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .5rem; }
.pair img, .wipe img { width: 100%; display: block; border-radius: .25rem; }
.wipe { position: relative; overflow: hidden; --at: 50%; }
.wipe img.top { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.wipe::after { content: ""; position: absolute; inset: 0 auto 0 var(--at); width: 2px; background: #fffc; }
input[type=range] { width: 100%; margin: .3rem 0; }
figure { margin: 0; } figcaption { font-size: .8rem; opacity: .75; }
"""

_SCRIPT = """
for (const slider of document.querySelectorAll("input[type=range]")) {
  const wipe = slider.previousElementSibling;
  const move = () => wipe.style.setProperty("--at", slider.value + "%");
  slider.addEventListener("input", move);
  wipe.addEventListener("pointermove", (event) => {
    const box = wipe.getBoundingClientRect();
    slider.value = 100 * (event.clientX - box.left) / box.width;
    move();
  });
}
"""


def report_html(report: dict[str, Any], scenes: list[dict[str, Any]]) -> str:
    """The page.

    Args:
        report: the content of report.json.
        scenes: its scenes with their pictures.
    """
    settings = report["settings"]
    title = f"{settings.get('model') or settings['method']} on {settings['root']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">da3gs evaluate, task {_text(settings["task"])}; {report["counts"]["done"]} of '
        f"{report['counts']['scenes']} scenes</p>",
        _summary(report),
        "<h2>Protocol</h2><ul>" + "".join(f"<li>{escape(rule)}</li>" for rule in report["protocol"]) + "</ul>",
        _published(report),
        _pictures(scenes),
        _scenes(report),
        "<h2>Settings</h2>" + _pairs(settings),
        "<h2>Versions</h2>" + _pairs(report["versions"]),
    ]
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _text(value: object) -> str:
    return escape(str(value))


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) and not isinstance(value, bool) else "&ndash;"


def _table(head: list[str], rows: list[list[str]], *, classes: list[str] | None = None, numbers: int = 1) -> str:
    """A table; columns from ``numbers`` on are figures. Cells are escaped already."""

    def row(cells: list[str], tag: str) -> str:
        """Cells of one row, numbers to the right."""
        return "".join(f"<{tag}{' class=n' if i >= numbers else ''}>{cell}</{tag}>" for i, cell in enumerate(cells))

    lines = [f"<tr>{row(head, 'th')}</tr>"]
    for i, cells in enumerate(rows):
        kind = f' class="{classes[i]}"' if classes and classes[i] else ""
        lines.append(f"<tr{kind}>{row(cells, 'td')}</tr>")
    return '<div class="scroll"><table>' + "\n".join(lines) + "</table></div>"


def _pairs(values: dict[str, Any]) -> str:
    return _table(["", ""], [[_text(k), "&ndash;" if v is None else _text(v)] for k, v in values.items()], numbers=2)


def _summary(report: dict[str, Any]) -> str:
    """Means, medians, intervals; then what goes with them."""
    rows = []
    for metric, value in report["mean"].items():
        interval = report["confidence_95"][metric]
        spread = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "&ndash;"
        rest = report.get("mean_without_context", {}).get(metric)
        rows.append([_text(metric), _number(value), _number(report["median"][metric]), spread, _number(rest)])
    head = ["", "mean", "median", "95 % interval of the mean over scenes", "mean without context frames"]
    parts = [_table(head, rows)]
    counts = report["counts"]
    if "targets" in counts:
        shared = counts["targets_among_context"]
        parts.append(f'<p class="note">{counts["targets"]} targets, {shared} of them context frames.</p>')
    if report.get("lpips_reason"):
        parts.append(f'<p class="note">LPIPS was not measured: {_text(report["lpips_reason"])}.</p>')
    elif (trunk := report["settings"].get("lpips")) and "lpips" in report["mean"]:
        parts.append(f'<p class="note">LPIPS 0.1 on {_text(trunk)}.</p>')
    cost = [
        f"{report['splats']:,.0f} splats" if report.get("splats") else "",
        f"{report['megabytes']:.1f} MB" if report.get("megabytes") else "",
        f"{report['seconds']['fit']:.2f} s a scene to make" if report["seconds"].get("fit") is not None else "",
    ]
    if any(cost):
        parts.append(f"<p>On average {', '.join(part for part in cost if part)}.</p>")
    return "\n".join(parts)


def _published(report: dict[str, Any]) -> str:
    """Others' numbers under ours; grey where their protocol is another."""
    printed = report["published"]
    if not printed:
        return ""
    metrics = [metric for metric in report["mean"] if any(metric in row for row in printed)]
    settings = report["settings"]
    ours = _text(settings.get("model") or settings["method"])
    rows = [[f"<b>{ours}, this report</b>", "", *(_number(report["mean"][metric]) for metric in metrics)]]
    classes = [""]
    for row in printed:
        differences = "; ".join(row["differences"]) or "same protocol"
        note = f" ({row['note']})" if row["note"] else ""
        figures = [_number(row.get(metric)) for metric in metrics]
        rows.append([_text(row["method"] + note), _text(differences), *figures])
        classes.append("grey" if row["differences"] else "")
    table = _table(["method", "protocol", *metrics], rows, classes=classes, numbers=2)
    return (
        "<h2>Printed by others on these data</h2>"
        '<p class="note">Grey: not comparable; the differences are named.</p>' + table
    )


def _scenes(report: dict[str, Any]) -> str:
    metrics = list(report["mean"])
    costs = [name for name in ("splats", "megabytes") if report.get(name) is not None]
    rows, classes = [], []
    for scene in report["scenes"]:
        failed = scene["status"] != "done"
        name = f'<span class="key">{_text(scene["name"])}</span>'
        if failed:
            name += f"<br>{_text(scene.get('reason', 'failed'))}"
        cost = scene.get("seconds", {}).get("fit")
        left = ", ".join(f"{d['role']} {d['index']} {d['reason']}" for d in scene.get("dropped", []))
        if left:
            name += f'<br><span class="note">left out: {_text(left)}</span>'
        made = [f"{scene[c]:,}" if scene.get(c) is not None else _number(None) for c in costs]
        rows.append([name, *(_number(scene.get(metric)) for metric in metrics), *made, _number(cost)])
        classes.append("bad" if failed else "")
    return "<h2>Scenes</h2>" + _table(
        ["scene", *metrics, *({"megabytes": "MB"}.get(c, c) for c in costs), "seconds"], rows, classes=classes
    )


def _pictures(scenes: list[dict[str, Any]]) -> str:
    """The worst and the best views of all scenes."""
    parts: list[str] = []
    legend = (
        '<p class="note">Left of the line the photo, right of it the render. Error, the mean of the channels: black 0, '
        "red 0.1, yellow 0.25, white 0.5 and more.</p>"
    )
    for role, title, most in (("worst", "Worst views", _WORST), ("best", "Best views", _BEST)):
        found = [(s["name"], p) for s in scenes if (p := s.get("pictures", {}).get(role)) and _is_shown(p)]
        found.sort(key=lambda pair: (pair[1]["psnr"] if pair[1]["psnr"] is not None else -1.0, pair[0]))
        chosen = found[:most] if role == "worst" else found[::-1][:most]
        if chosen:
            cards = "\n".join(_card(name, picture) for name, picture in chosen)
            parts.append(f'<h2>{title}</h2>{legend}<div class="cards">{cards}</div>')
    return "\n".join(parts)


def _is_shown(picture: dict[str, Any]) -> bool:
    return all(_PICTURE.fullmatch(str(picture.get(part, ""))) for part in ("photo", "render", "error"))


def _card(name: str, picture: dict[str, Any]) -> str:
    label = f"{_text(picture['name'])} (frame {_text(picture['index'])}), {_number(picture['psnr'])} dB"
    return (
        f'<div class="card"><div><b>{label}</b><br><span class="key">{_text(name)}</span></div>'
        f'<div class="wipe"><img src="{picture["photo"]}" alt="photo">'
        f'<img class="top" src="{picture["render"]}" alt="render"></div>'
        '<input type="range" min="0" max="100" value="50" aria-label="photo on the left, render on the right">'
        f'<div class="pair"><figure><img src="{picture["photo"]}" alt="photo"><figcaption>photo</figcaption></figure>'
        f'<figure><img src="{picture["render"]}" alt="render"><figcaption>render</figcaption></figure>'
        f'<figure><img src="{picture["error"]}" alt="error"><figcaption>error</figcaption></figure></div></div>'
    )
