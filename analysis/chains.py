"""Figures: one chain of each of six integrators at one noise level, in the style of Jain & Poole 2022, figure 1.

The networks are the one in the package, and one that is downloaded; the repository contains only the picture of the
latter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import uldnum
from uldnum._util.typing import Array
from uldnum.networks import Network, network
from uldnum.plotting.pictures import coloured, draw_images

FIGURES = Path(__file__).parents[1] / "figures"

NETWORKS = ("mnist", "galaxygrad-quasar72")
COLUMNS, EVERY = 12, 20  # number of states shown, and number of steps between them

# Step sizes in units of the card's step size, which is h = 2 sigma for most networks. At h = 2 sigma a step of
# noise-denoise is one noising and denoising at level sigma, and the paper uses this step for BAOAB-limit. The other
# schemes use half of it, because it is their stability limit on a flat background, a Gaussian of variance sigma^2.
SCHEMES = {"noise-denoise(1)": 1.0, "noise-denoise(2)": 1.0, "ula": 0.5, "BAOAB": 0.5, "OBABO": 0.5, "baoab-limit": 1.0}


def states(net: Network, scheme: str, h: float) -> Array:
    """Return denoised states along one chain."""
    level = net.at()
    run = uldnum.sample(level, scheme, h=h, steps=COLUMNS * EVERY, chains=1, thin=EVERY, seed=1)
    return level.denoise(run.recorded[:, 0])


def main() -> None:
    """Run the chains and draw them."""
    for name in NETWORKS:
        net = network(name)
        steps = {scheme: share * net.card.h for scheme, share in SCHEMES.items()}
        images = np.concatenate([states(net, scheme, h) for scheme, h in steps.items()])
        draw_images(
            coloured(images, net.display),
            [f"step {EVERY * (i + 1)}" for i in range(COLUMNS)],
            f"{net.at().name}: denoised states along one chain of each integrator, from noise, at equal NFE",
            FIGURES / f"chains-{name}.png",
            [f"{scheme}\nh = {h:.2g} sigma" for scheme, h in steps.items()],
        )


if __name__ == "__main__":
    main()
