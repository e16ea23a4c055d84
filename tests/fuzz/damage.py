"""Damage done to sound files: bytes changed, pieces cut out or doubled, values of JSON respelt."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

HEADS = [64, 2000, 10**9]
"""How far from the start damage is done: mostly in the head."""


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes changed, most of them in the head, a piece cut out or doubled, or the end cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, min(len(changed), draw(st.sampled_from(HEADS))) - 1))
        changed[place] = draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    start, length = draw(st.integers(0, len(changed))), draw(st.integers(0, 200))
    piece = bytes(changed[start : start + length])
    match draw(st.sampled_from(["keep", "cut", "out", "double"])):
        case "cut":
            del changed[start:]
        case "out":
            del changed[start : start + length]
        case "double":
            changed[start:start] = piece
    return bytes(changed)


NUMBERS = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.integers(-(2**70), 2**70), st.floats(), st.just([]), st.just({}),
    st.lists(st.floats(), max_size=4),
    st.sampled_from(["../a", "/etc/passwd", "http://a/b.jpg", "", ".", "\0", "a" * 400]),
)  # fmt: skip


@st.composite
def respelt(draw: st.DrawFn, value: Any) -> Any:
    """JSON with something else in a place."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return draw(NUMBERS)
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 6)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: draw(respelt(value[key]))}
    place = draw(st.integers(0, len(value) - 1))
    return [*value[:place], draw(respelt(value[place])), *value[place + 1 :]]


@st.composite
def worded(draw: st.DrawFn, text: str) -> str:
    """Text with words exchanged, doubled or left out."""
    lines = [line.split(" ") for line in text.split("\n")]
    for _ in range(draw(st.integers(1, 3))):
        line = lines[draw(st.integers(0, len(lines) - 1))]
        place = draw(st.integers(0, len(line) - 1))
        match draw(st.sampled_from(["say", "double", "out", "swap"])):
            case "say":
                line[place] = draw(
                    st.sampled_from(["nan", "-1", "1e999", "0", "99999999999999999999", "", "../../a", "x", "\0"])
                    | st.text(max_size=5)
                )
            case "double":
                line.insert(place, line[place])
            case "out" if len(line) > 1:
                del line[place]
            case _:
                other = draw(st.integers(0, len(line) - 1))
                line[place], line[other] = line[other], line[place]
    return "\n".join(" ".join(line) for line in lines)
