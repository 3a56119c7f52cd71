"""Figure: what integrators draw at one noise level and through many, at equal cost, after Jain & Poole 2022, figure 3.

Every cell shows the last states of sixteen chains on a network, denoised. The first row stays at one noise
level, the second does with steps that follow the score, the third goes through the levels from the most noise down. G
refines the states of the single level by DDIM, and starts the levels in their middle, from a chain; H starts there from
noised images of MNIST, which no chain knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import uldnum
from analysis.mnist import mnist
from uldnum.extras import require
from uldnum.files import atomic
from uldnum.levels import Levels
from uldnum.networks import Network, network
from uldnum.pictures import coloured, mosaic
from uldnum.typing import Array

FIGURES = Path(__file__).parents[1] / "figures"

NETWORKS = ("mnist", "galaxygrad-hsc32")
CHAINS = 16
NFE = 120
LEVELS = uldnum.levels.geometric(20.0, 0.05, NFE)  # of sigma/alpha: networks of both kinds take them
REFINED = 20  # steps of the refinement, and so many fewer of the chain

# Integrator and step size in units of the card's, h = 2 sigma for mnist, as in analysis/chains.py.
SCHEMES = {
    "A  ula": ("ula", 0.5),
    "B  noise-denoise(1)": ("noise-denoise(1)", 1.0),
    "C  BAOAB": ("BAOAB", 0.5),
    "D  OBABO": ("OBABO", 0.5),
    "E  baoab-limit": ("baoab-limit", 1.0),
    "F  MILD(0.38)": ("mild(0.38)", 0.35),
}
# Signal to noise of the steps that follow the score: of so many sigma where |s| = |xi|/sigma, as it is in noise.
ADAPTIVE = 0.35


def single(net: Network, scheme: str, share: float, steps: int = NFE) -> Array:
    """States of chains at the card's noise level, in the scale of alpha = 1."""
    level = net.at()
    run = uldnum.sample(level, scheme, h=share * net.card.h, steps=steps, chains=CHAINS, seed=1)
    return run.x / level.alpha


def annealed(net: Network, levels: Levels, method: str, x0: Any = None, **options: Any) -> Array:
    """Images at the end of a plan."""
    return uldnum.anneal(net, uldnum.plan(method, levels, **options), chains=CHAINS, seed=1, x0=x0).x


def cells(net: Network) -> list[dict[str, Array]]:
    """Images of every cell: of the single level, of its steps that follow the score, and through the levels."""
    level, h = net.at(), net.card.h
    noise = level.sigma / level.alpha
    here, middle, down = (
        uldnum.levels.given([noise]),
        LEVELS.below(noise),
        uldnum.levels.geometric(noise, 0.05, REFINED),
    )
    alone, following, through = {}, {}, {}
    for name, (scheme, share) in SCHEMES.items():
        alone[name] = level.denoise(level.alpha * single(net, scheme, share))
        following[name] = annealed(net, here, scheme, steps=NFE - 1, snr=ADAPTIVE * share * h)
        through[name] = annealed(net, LEVELS, scheme, h=min(share * h, 1.0))
    chain = single(net, "baoab-limit", 1.0, NFE - REFINED)
    adapted = annealed(net, here, "baoab-limit", steps=NFE - REFINED, snr=ADAPTIVE * h, denoise=False)
    alone["G  baoab-limit, then DDIM"] = annealed(net, down, "ddim", chain)
    following["G  baoab-limit, then DDIM"] = annealed(net, down, "ddim", adapted)
    through["G  baoab-limit from the middle, of a chain"] = annealed(net, middle, "baoab-limit", chain, h=1.0)
    if net.name == "mnist":
        images = mnist()[1][:CHAINS]
        noised = images + noise * np.random.default_rng(1).normal(size=images.shape)
        alone["H  held-out images, noised and denoised"] = level.denoise(level.alpha * noised)
        following["H  baoab-limit, of noised images"] = annealed(
            net, here, "baoab-limit", noised, steps=NFE - 1, snr=ADAPTIVE * h
        )
        through["H  baoab-limit from the middle, of noised images"] = annealed(
            net, middle, "baoab-limit", noised, h=1.0
        )
    return [alone, following, through]


def draw(net: Network, rows: list[dict[str, Array]]) -> None:
    """Draw the cells of a network."""
    require("matplotlib", "plot")
    from matplotlib.figure import Figure

    sigma = f"one level,\nsigma = {net.at().sigma:g}"
    labels = sigma, "one level,\nsteps follow\nthe score", f"through\n{NFE} levels"
    figure = Figure(figsize=(2 * len(rows[0]) + 1, 7.4), layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axes_of, row, label in zip(grid, rows, labels, strict=True):
        for axes, (name, images) in zip(axes_of, row.items(), strict=True):
            axes.imshow(mosaic(coloured(images, net.card), 4), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(name.replace(", ", ",\n"), fontsize=8)
        axes_of[0].text(-0.06, 0.5, label, transform=axes_of[0].transAxes, ha="right", va="center", fontsize=9)
    fewer = ", upper and lower H: fewer" if len(rows[0]) > 7 else ": fewer"
    figure.suptitle(f"{net.name}: {CHAINS} chains of {NFE} evaluations each (lower G{fewer})", fontsize=10)
    with atomic(FIGURES / f"grids-{net.name}.png") as file:
        figure.savefig(file, dpi=110)


def main() -> None:
    """Run all of them and draw."""
    for name in NETWORKS:
        net = network(name)
        draw(net, cells(net))
