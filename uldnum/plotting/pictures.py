"""Pictures and animations of batches of images, and figures of points."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.plotting.style import literal_text
from uldnum.targets import Display

__all__ = ["check_display", "coloured", "draw_gif", "draw_grid", "draw_images", "draw_points", "mosaic"]

COLUMNS = 10  # images in a row
PIXELS = 96  # minimum side of an image in an animation, in pixels


def check_display(display: Display) -> None:
    """Raise an error if Matplotlib is missing or does not have the colour map."""
    require("matplotlib", "plot")
    from matplotlib import colormaps

    if display.colours not in colormaps:
        raise ValueError(f"card: colours must be a Matplotlib colour map, such as 'magma', got {display.colours!r}")


def coloured(images: Array, display: Display) -> Array:
    """Return images (n, channels, height, width) as RGB values (n, height, width, 3) between 0 and 1.

    Three channels are red, green and blue. For any other number of channels, the first one is shown in the colour map.
    """
    require("matplotlib", "plot")
    from matplotlib import colormaps

    low, high = display.limits
    shown = (np.clip((images - low) / (high - low), 0, 1)) ** display.gamma
    if shown.shape[1] == 3:
        return np.moveaxis(shown, 1, -1)
    return colormaps[display.colours](shown[:, 0])[..., :3]


@literal_text()
def draw_images(images: Array, titles: Sequence[str], caption: str, out: Path, labels: Sequence[str] = ()) -> None:
    """Draw images in rows.

    Parameters
    ----------
    images : array, shape (n, height, width, 3)
        RGB values between 0 and 1.
    titles : sequence of str
        Titles of the images, or an empty sequence. With labels, they are the titles of the first row.
    caption : str
        Title of the figure.
    out : Path
        Image file to write; its suffix determines the format.
    labels : sequence of str
        Labels of the rows. The number of titles is then the number of columns. Default: no labels.
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
    # The width of a character is about half its height.
    figure.suptitle(caption, fontsize=min(9, size[0] * 72 / (0.55 * len(caption))))
    with atomic(out) as file:
        figure.savefig(file, dpi=160)


def draw_grid(images: Array, caption: str, out: Path, labels: Sequence[str] = ()) -> None:
    """Draw images in a square, or in one row for each label.

    Parameters
    ----------
    images : array, shape (n, height, width, 3)
        RGB values between 0 and 1. Image i belongs to the label i modulo the number of labels.
    caption : str
        Title of the figure.
    out : Path
        Image file to write.
    labels : sequence of str
        Labels of the rows. Default: no labels.
    """
    if not labels:
        draw_images(images, [], caption, out)
        return
    rows = [images[first :: len(labels)] for first in range(min(len(labels), len(images)))]
    columns = len(rows[0])
    blank = np.ones((1, *images.shape[1:]))
    places = [part for row in rows for part in (row, *[blank] * (columns - len(row)))]
    draw_images(np.concatenate(places), [""] * columns, caption, out, labels[: len(rows)])


@literal_text()
def draw_points(points: Array, caption: str, out: Path, labels: Sequence[str] = ()) -> None:
    """Draw the first two coordinates of points, or a histogram of points with one coordinate.

    Parameters
    ----------
    points : array, shape (n, d)
        The points. Those with a non-finite coordinate are left out.
    caption : str
        Title of the figure.
    out : Path
        Image file to write; its suffix determines the format.
    labels : sequence of str
        Labels of groups. Point i belongs to the label i modulo the number of labels. Default: no labels.
    """
    from matplotlib.figure import Figure

    count = max(1, len(labels))
    parts = [points[first::count] for first in range(count)]
    groups = [part[np.isfinite(part).all(axis=1)] for part in parts]
    figure = Figure(figsize=(5.5, 5.0 if points.shape[1] > 1 else 4.0), layout="constrained")
    axes = figure.subplots()
    if points.shape[1] == 1:
        edges = np.histogram_bin_edges(np.concatenate(groups), bins=min(100, 10 + math.isqrt(len(points))))
        for group in groups:
            axes.hist(group[:, 0], edges.tolist(), density=True, histtype="step" if labels else "bar")
        axes.set(xlabel="x", ylabel="density")
    else:
        for group in groups:
            axes.scatter(group[:, 0], group[:, 1], s=min(20, max(3, 8000 / len(points))), alpha=0.6, linewidths=0)
        axes.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
        axes.set_adjustable("datalim")
    if labels:
        axes.legend(labels, fontsize=8)
    axes.set_title(textwrap.fill(caption, 75), fontsize=9)
    with atomic(out) as file:
        figure.savefig(file, dpi=160)


def draw_gif(frames: Sequence[Array], out: Path, display: Display | None = None) -> Path:
    """Write an animation and return its path.

    Parameters
    ----------
    frames : sequence of arrays, shape (n, height, width, 3)
        Images of each frame, RGB values between 0 and 1. With ``display``, images of shape (n, channels, height,
        width), as ``denoise`` of a noise level returns them.
    out : Path
        GIF file to write.
    display : Display, optional
        How images are drawn, such as ``net.display``.

    Returns
    -------
    Path
    """
    image = require("PIL.Image", "plot")
    if display is not None:
        frames = [coloured(np.asarray(frame), display) for frame in frames]
    if not len(frames) or any(np.ndim(frame) != 4 or np.shape(frame)[-1] != 3 for frame in frames):
        raise ValueError(
            "frames: must be arrays of shape (n, height, width, 3); pass display= for images (n, channels, height, "
            "width)"
        )
    columns = math.ceil(math.sqrt(len(frames[0])))
    larger = max(1, PIXELS // frames[0].shape[1])
    pictures = [image.fromarray(mosaic(frame, columns).repeat(larger, 0).repeat(larger, 1)) for frame in frames]
    with atomic(out) as file:
        pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=120, loop=0)
    return out


def mosaic(images: Array, columns: int) -> Array:
    """Return one image of bytes that contains the images (n, height, width, 3) in rows of ``columns`` images."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    places = np.zeros((rows * columns, height, width, 3), np.uint8)
    places[:n] = np.rint(255 * images)
    return places.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
