"""Contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_CELL = 320
_GAP = 8
_TEXT = 40
_ACROSS = 4


def contact_sheet(
    columns: Sequence[tuple[UInt8[np.ndarray, "_H _W 3"], UInt8[np.ndarray, "_H _W 3"], str]],
) -> Image.Image:
    """Pairs of pictures, one above the other with a caption of two lines below; four pairs a row, all at one scale."""
    tallest = max((upper.shape[0] for upper, _, _ in columns), default=1)
    widest = max((upper.shape[1] for upper, _, _ in columns), default=1)
    scale = min(_CELL / widest, _CELL / tallest)
    width, height = max(round(widest * scale), 120), round(tallest * scale)
    across = max(1, min(_ACROSS, len(columns)))
    block = 2 * (height + _GAP) + _TEXT
    size = (across * (width + _GAP) + _GAP, -(-len(columns) // across) * block + _GAP)
    sheet = Image.new("RGB", size, (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (upper, lower, caption) in enumerate(columns):
        left, top = _GAP + number % across * (width + _GAP), _GAP + number // across * block
        for picture in (upper, lower):
            shape = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
            sheet.paste(Image.fromarray(picture).resize(shape, Image.Resampling.LANCZOS), (left, top))
            top += height + _GAP
        lines = [line if len(line) <= width // 8 else line[: width // 8 - 3] + "..." for line in caption.splitlines()]
        draw.multiline_text((left, top - 4), "\n".join(lines), fill=(230, 230, 230), font=font, spacing=3)
    return sheet
