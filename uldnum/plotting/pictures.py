"""Pictures of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.plotting.style import literal_text

if TYPE_CHECKING:
    from uldnum.networks import Card

__all__ = ["check_look", "coloured", "draw_gif", "draw_images"]

COLUMNS = 10  # in a row of images
PIXELS = 96  # side of an image in a moving picture, at least


def check_look(card: Card) -> None:
    """Raise if images could not be drawn as a card says."""
    require("matplotlib", "plot")
    from matplotlib import colormaps

    if card.colours not in colormaps:
        raise ValueError(f"card: colours must be a name of Matplotlib's, such as 'magma', got {card.colours!r}")


def coloured(images: Array, card: Card) -> Array:
    """Return images (n, channels, height, width) as colours (n, height, width, 3) between 0 and 1.

    Three channels are red, green and blue; of any other number the first is shown, in the colours of the card.
    """
    require("matplotlib", "plot")
    from matplotlib import colormaps

    low, high = card.display or card.data_range
    shown = (np.clip((images - low) / (high - low), 0, 1)) ** card.gamma
    if shown.shape[1] == 3:
        return np.moveaxis(shown, 1, -1)
    return colormaps[card.colours](shown[:, 0])[..., :3]


@literal_text()
def draw_images(images: Array, titles: Sequence[str], caption: str, out: Path, labels: Sequence[str] = ()) -> None:
    """Draw images in rows.

    Parameters
    ----------
    images : array, shape (n, height, width, 3)
        Colours between 0 and 1.
    titles : sequence of str
        One for each image, or none.
    caption : str
        What they are.
    out : Path
        Image to write; its suffix decides the format.
    labels : sequence of str
        One for each row, if rows have names; then all rows have the titles of the first.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    usual = min(len(images), COLUMNS) if titles else math.ceil(math.sqrt(len(images)))
    columns = len(titles) if labels else usual
    rows = -(-len(images) // columns)
    size = max(1.1 * columns + bool(labels), 5.5), (1.3 if titles and not labels else 1.1) * rows + 0.5
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (image, axes) in enumerate(zip(images, grid.flat, strict=False)):
        axes.imshow(image, interpolation="nearest")
        if number < len(titles):
            axes.set_title(titles[number], fontsize=8)
        if labels and number % columns == 0:
            label = labels[number // columns]
            axes.text(-0.06, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=9)
    figure.suptitle(caption, fontsize=min(9, size[0] * 72 / (0.55 * len(caption))))  # a letter is half as wide as high
    with atomic(out) as file:
        figure.savefig(file, dpi=160)


def draw_gif(frames: Sequence[Array], out: Path) -> Path:
    """Write a moving picture, of which every frame holds images (n, height, width, 3); returns where it is."""
    image = require("PIL.Image", "plot")
    columns = math.ceil(math.sqrt(len(frames[0])))
    larger = max(1, PIXELS // frames[0].shape[1])
    pictures = [image.fromarray(mosaic(frame, columns).repeat(larger, 0).repeat(larger, 1)) for frame in frames]
    with atomic(out) as file:
        pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=120, loop=0)
    return out


def mosaic(images: Array, columns: int) -> Array:
    """Put images (n, height, width, 3) together to one of bytes, row after row."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    places = np.zeros((rows * columns, height, width, 3), np.uint8)
    places[:n] = np.rint(255 * images)
    return places.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
