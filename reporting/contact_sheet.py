"""A contact sheet: images of a batch beside each other, each with its label."""

import os
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from plumbline.files import replace_atomically
from reporting.formatting import plain

# Least height and width in pixels of an image on the sheet; smaller ones are enlarged by a whole factor.
_LEAST_SIDE = 96
_MARGIN, _CAPTION = 8, 18


def write_contact_sheet(path: str | os.PathLike, images: np.ndarray, labels: Sequence[str]) -> None:
    """Writes a PNG with images in rows, as near to a square as they go.

    Args:
      path: path of the file.
      images: (n, H, W, C) uint8, grey (C = 1) or RGB (C = 3).
      labels: n captions; long ones are cut at the width of an image.
    """
    factor = max(1, -(-_LEAST_SIDE // max(images.shape[1:3])))
    height, width = (side * factor for side in images.shape[1:3])
    columns = int(np.ceil(np.sqrt(len(images) * (height + _CAPTION) / width)))
    rows = -(-len(images) // columns)
    size = (_MARGIN + columns * (width + _MARGIN), _MARGIN + rows * (height + _CAPTION + _MARGIN))
    sheet = PIL.Image.new("RGB", size, "white")
    draw, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(12)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = _MARGIN + index % columns * (width + _MARGIN)
        top = _MARGIN + index // columns * (height + _CAPTION + _MARGIN)
        shown = PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        sheet.paste(shown.resize((width, height), PIL.Image.Resampling.NEAREST), (left, top))
        draw.text((left, top + height + 2), _cut(plain(label), font, width), fill="black", font=font)
    with replace_atomically(path) as temporary:
        sheet.save(temporary, "PNG")


def _cut(text: str, font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont, width: int) -> str:
    """Cuts a text at the width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
