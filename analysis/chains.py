"""Figures: one chain of each of six integrators at one noise level, in the style of Jain & Poole 2022, figure 1.

The networks are the one in the package, and one that is downloaded; the repository contains only the picture of the
latter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import uldnum
from analysis import TWO_COLUMNS, paper
from analysis.quality import distance_at_one_level
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.networks import Network, network
from uldnum.plotting.pictures import coloured, mosaic

FIGURES = Path(__file__).parents[1] / "figures"

NETWORKS = ("mnist", "galaxygrad-quasar72")
COLUMNS, EVERY = 12, 20  # number of states shown, and number of steps between them

# Step sizes in units of the card's step size, which is h = 2 sigma for most networks. At h = 2 sigma a step of
# noise-denoise is one noising and denoising at level sigma, and the paper uses this step for BAOAB-limit. The other
# schemes use 0.45 of it, because half of it is their stability limit on a flat background, a Gaussian of variance
# sigma^2. These are step sizes at which `analysis.quality` measures distances.
SCHEMES = {
    "noise-denoise(1)": 1.0, "noise-denoise(2)": 1.0, "ula": 0.45, "BAOAB": 0.45, "OBABO": 0.45, "baoab-limit": 1.0,
}  # fmt: skip


def states(net: Network, scheme: str, h: float) -> Array:
    """Return denoised states along one chain."""
    level = net.at()
    run = uldnum.sample(level, scheme, h=h, steps=COLUMNS * EVERY, chains=1, thin=EVERY, seed=1)
    return level.denoise(run.recorded[:, 0])


def draw(net: Network) -> None:
    """Run the chains on a network, and draw one row for each."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.01, w_pad=0.02, hspace=0)
    figure = Figure(figsize=(TWO_COLUMNS, 0.52 * len(SCHEMES) + 0.45), layout=layout)
    for axes, (scheme, share) in zip(figure.subplots(len(SCHEMES)), SCHEMES.items(), strict=True):
        h = share * net.card.h
        images = coloured(states(net, scheme, h), net.display)
        images = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1)  # a white line between images
        axes.imshow(mosaic(images, COLUMNS), interpolation="nearest")
        distance = distance_at_one_level(scheme, h) if net.name == "mnist" else ""
        label = "\n".join(filter(None, [scheme, f"h = {h:.2g} sigma", distance]))
        axes.text(-0.01, 0.5, label, transform=axes.transAxes, ha="right", va="center")
        axes.set(yticks=[], xticks=[])
        axes.spines[:].set_visible(False)
        if axes.get_subplotspec().is_first_row():
            width = images.shape[2]
            axes.xaxis.tick_top()
            axes.set_xticks([(i + 0.5) * width for i in range(COLUMNS)], [EVERY * (i + 1) for i in range(COLUMNS)])
            axes.tick_params(length=0, pad=1)
    figure.suptitle(f"{net.at().name}: denoised states along one chain of each integrator, by step", fontsize="medium")
    with atomic(FIGURES / f"chains-{net.name}.png") as file:
        figure.savefig(file, dpi=300)


def main() -> None:
    """Run the chains and draw them."""
    with paper():
        for name in NETWORKS:
            draw(network(name))


if __name__ == "__main__":
    main()
