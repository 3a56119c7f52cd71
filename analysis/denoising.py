"""Page and figure: denoising error of the network in the package, beside that of an exact denoiser.

The exact denoiser is that of the empirical distribution of the training images (`uldnum.targets.DataMixture`). No
denoiser has a smaller error on the training images. On held-out images the comparison shows how far the network
generalises: at low noise the exact denoiser returns one of the training images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from analysis import ONE_COLUMN, paper, pictures
from uldnum._util.extras import require
from uldnum._util.files import store
from uldnum.networks import network, reference_images
from uldnum.plotting import save
from uldnum.targets import DataMixture

HERE = Path(__file__).parent
DATA, PAGE = HERE / "data" / "denoising.nc", HERE / "denoising.md"
FIGURES = pictures("denoising")

SIGMAS = np.geomspace(0.02, 20, 10)
IMAGES, BATCH = 512, 64


def study() -> xr.Dataset:
    """Return the mean square error per pixel of both denoisers on noised training and held-out images."""
    digits = reference_images("mnist-images")
    train, test = digits.train, np.asarray(digits.held_out)
    net, data = network(), DataMixture(train, "mnist")
    random = np.random.default_rng(0)
    sets = {"training": train[random.choice(len(train), IMAGES, replace=False)], "held-out": test[:IMAGES]}
    errors = np.empty((2, 2, len(SIGMAS), IMAGES))
    for s, sigma in enumerate(SIGMAS):
        levels = net.at(sigma), data.at(sigma)
        for i, images in enumerate(sets.values()):
            noised = images + np.float32(sigma) * random.standard_normal(images.shape, dtype=np.float32)
            for first in range(0, IMAGES, BATCH):
                part = slice(first, first + BATCH)
                for j, level in enumerate(levels):
                    gaps = level.denoise(noised[part]) - images[part]
                    errors[j, i, s, part] = (gaps**2).mean(axis=(1, 2, 3))
    dims = ("denoiser", "images", "sigma")
    means = {
        "error": (dims, errors.mean(axis=-1), {"long_name": "mean square error per pixel"}),
        "standard_error": (dims, errors.std(axis=-1, ddof=1) / np.sqrt(IMAGES)),
    }
    coordinates = {"denoiser": ["network", "exact"], "images": list(sets), "sigma": SIGMAS}
    return xr.Dataset(means, coordinates, {"count": IMAGES, "network": net.name})


def page(found: xr.Dataset) -> str:
    """Return the text of the page."""
    lines = [
        "# Denoising error of the network in the package",
        "",
        "*Written by `python -m analysis denoising`, with [the figure](../figures/denoising.png).*",
        "",
        f"The table shows the mean square error per pixel of {found.attrs['count']} noised images, and its standard",
        "error over images. Black is -1 and white is 1. The exact denoiser is the posterior mean for the empirical",
        "distribution of the 60000 training images, which has a closed form.",
        "",
        "| sigma | network, held out | exact, held out | network, training | exact, training |",
        "|---|---|---|---|---|",
    ]
    for sigma in found.sigma.values:
        cells = [
            f"{float(one.error):.5f} ± {float(one.standard_error):.5f}"
            for images in ("held-out", "training")
            for denoiser in ("network", "exact")
            for one in [found.sel(sigma=sigma, images=images, denoiser=denoiser)]
        ]
        lines.append(f"| {sigma:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@paper()
def draw() -> None:
    """Draw the stored errors."""
    require("matplotlib", "plot")
    found = xr.load_dataset(DATA)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(ONE_COLUMN, 2.9), layout="constrained")
    axes = figure.subplots()
    for denoiser, colour in (("network", "#0072B2"), ("exact", "#E69F00")):
        for images, style in (("held-out", "-"), ("training", "--")):
            one = found.sel(denoiser=denoiser, images=images)
            label = {"network": "network", "exact": "exact denoiser of the training images"}[denoiser]
            axes.errorbar(one.sigma, one.error, 2 * one.standard_error, color=colour, linestyle=style, marker="o",
                          markersize=2.5, label=f"{label}, on {images} images")  # fmt: skip
    axes.plot(found.sigma, found.sigma**2, color="0.6", linewidth=0.8, label="no denoising: sigma²")
    axes.set(xscale="log", yscale="log", xlabel="noise level sigma")
    axes.set(ylabel="mean square error per pixel", ylim=(1e-4, 0.7))
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    figure.legend(loc="outside lower center", frameon=False)
    axes.set_title(f"Denoising MNIST: {found.attrs['count']} images, ± 2 standard errors")
    save(figure, *FIGURES)


def main() -> None:
    """Compute the errors, store them, write the page, and draw the stored data."""
    found = study()
    store(found, DATA)
    PAGE.write_text(page(found))
    draw()
