"""Figure: what integrators draw at one noise level and through many, at equal cost, after Jain & Poole 2022, figure 3.

Every cell shows the last states of sixteen chains on the shipped network, denoised. The first row stays at one noise
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
from uldnum.networks import Network, network
from uldnum.pictures import coloured, mosaic
from uldnum.typing import Array

FIGURE = Path(__file__).parents[1] / "figures" / "grids-mnist.png"

CHAINS = 16
NFE = 120
LEVELS = uldnum.levels.geometric(20.0, 0.05, NFE)
MIDDLE = LEVELS.below(1.6)  # from the level of the single-level chains on
REFINED = 20  # steps of the refinement, and so many fewer of the chain

# Integrator and step size in units of sigma: those of the single level, as in analysis/chains.py.
SCHEMES = {
    "A  ula": ("ula", 1.0),
    "B  noise-denoise(1)": ("noise-denoise(1)", 2.0),
    "C  BAOAB": ("BAOAB", 1.0),
    "D  OBABO": ("OBABO", 1.0),
    "E  baoab-limit": ("baoab-limit", 2.0),
    "F  MILD(0.38)": ("mild(0.38)", 0.7),
}
# Signal to noise of the steps that follow the score: of so many sigma where |s| = |xi|/sigma, as it is in noise.
ADAPTIVE = 0.35


def single(net: Network, scheme: str, h: float, steps: int = NFE) -> Array:
    """States of chains at the card's noise level."""
    return uldnum.sample(net.at(), scheme, h=h, steps=steps, chains=CHAINS, seed=1).x


def annealed(net: Network, levels: Any, method: str, **options: Any) -> Array:
    """Images at the end of a plan."""
    x0 = options.pop("x0", "target")
    return uldnum.anneal(net, uldnum.plan(method, levels, **options), chains=CHAINS, seed=1, x0=x0).x


def cells(net: Network) -> list[dict[str, Array]]:
    """Images of every cell: of the single level, of its steps that follow the score, and through the levels."""
    level = net.at()
    here = uldnum.levels.given([level.sigma])
    alone = {name: level.denoise(single(net, scheme, h)) for name, (scheme, h) in SCHEMES.items()}
    following = {
        name: annealed(net, here, scheme, steps=NFE - 1, snr=ADAPTIVE * h) for name, (scheme, h) in SCHEMES.items()
    }
    through = {name: annealed(net, LEVELS, scheme, h=min(h, 1.0)) for name, (scheme, h) in SCHEMES.items()}
    chain = single(net, "baoab-limit", 2.0, NFE - REFINED)
    adapted = annealed(net, here, "baoab-limit", steps=NFE - REFINED, snr=2 * ADAPTIVE, denoise=False)
    down = uldnum.levels.geometric(level.sigma, 0.05, REFINED)
    alone["G  baoab-limit, then DDIM"] = annealed(net, down, "ddim", x0=chain)
    following["G  baoab-limit, then DDIM"] = annealed(net, down, "ddim", x0=adapted)
    through["G  E from the middle, of a chain"] = annealed(net, MIDDLE, "baoab-limit", h=1.0, x0=chain)
    _, held_out = mnist()
    noised = held_out[:CHAINS] + level.sigma * np.random.default_rng(1).normal(size=(CHAINS, 1, 28, 28))
    alone["H  held-out images, noised and denoised"] = level.denoise(noised)
    following["H  E, of noised images"] = annealed(net, here, "baoab-limit", steps=NFE - 1, snr=2 * ADAPTIVE, x0=noised)
    through["H  E from the middle, of noised images"] = annealed(net, MIDDLE, "baoab-limit", h=1.0, x0=noised)
    return [alone, following, through]


def main() -> None:
    """Run all of them and draw."""
    require("matplotlib", "plot")
    from matplotlib.figure import Figure

    net = network()
    rows = cells(net)
    labels = f"one level,\nsigma = {net.card.sigma:g}", "one level,\nsteps follow\nthe score", f"through\n{NFE} levels"
    figure = Figure(figsize=(17, 7.4), layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axes_of, row, label in zip(grid, rows, labels, strict=True):
        for axes, (name, images) in zip(axes_of, row.items(), strict=True):
            axes.imshow(mosaic(coloured(images, net.card), 4), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(name.replace(", ", ",\n"), fontsize=8)
        axes_of[0].text(-0.06, 0.5, label, transform=axes_of[0].transAxes, ha="right", va="center", fontsize=9)
    figure.suptitle(
        f"MNIST, the shipped network: {CHAINS} chains of {NFE} evaluations each (upper and lower H, lower G: fewer)",
        fontsize=10,
    )
    with atomic(FIGURE) as file:
        figure.savefig(file, dpi=130)
