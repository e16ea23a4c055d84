"""Contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_CELL = 240
_GAP = 8
_TEXT = 34
_ACROSS = 4


def contact_sheet(
    columns: Sequence[tuple[UInt8[np.ndarray, "_H _W 3"], UInt8[np.ndarray, "_H _W 3"], str]],
) -> Image.Image:
    """Pairs of pictures, each pair one above the other with a caption of two lines below; four pairs a row."""
    tallest = max((_CELL * upper.shape[0] / upper.shape[1] for upper, _, _ in columns), default=_CELL)
    height = min(round(tallest), 2 * _CELL)
    across = max(1, min(_ACROSS, len(columns)))
    down = -(-len(columns) // across)
    block = 2 * height + 2 * _GAP + _TEXT
    sheet = Image.new("RGB", (across * (_CELL + _GAP) + _GAP, down * block + _GAP), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (upper, lower, caption) in enumerate(columns):
        left, top = _GAP + number % across * (_CELL + _GAP), _GAP + number // across * block
        for picture in (upper, lower):
            small = Image.fromarray(picture)
            small.thumbnail((_CELL, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + (_CELL - small.width) // 2, top + (height - small.height) // 2))
            top += height + _GAP
        lines = [line if len(line) <= 32 else line[:29] + "..." for line in caption.splitlines()]
        draw.multiline_text((left, top - 2), "\n".join(lines), fill=(230, 230, 230), font=font, spacing=2)
    return sheet
