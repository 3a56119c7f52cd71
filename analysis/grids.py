"""Figure: what integrators draw at one noise level and through many, at equal cost, after Jain & Poole 2022, figure 3.

Every cell shows the last states of sixteen chains on a network, denoised. The first row stays at one noise
level, the second does with steps that follow the score, the third goes through the levels from the most noise down. G
refines the states of the single level by DDIM, and starts the levels in their middle, from a chain; H starts there from
images that no chain knows, noised: held-out ones of MNIST; of galaxies, of which none are at hand, the network's own.
Titles say how many evaluations a cell took, as the network counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import uldnum
from analysis.mnist import mnist
from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.networks import Network, network
from uldnum.plans.levels import Levels
from uldnum.plotting.pictures import coloured, mosaic

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


def annealed(net: Network, levels: Levels, method: str, x0: Any = None, seed: int = 1, **options: Any) -> Array:
    """Images at the end of a plan."""
    return uldnum.anneal(net, uldnum.plan(method, levels, **options), chains=CHAINS, seed=seed, x0=x0).x


def unknown_images(net: Network) -> tuple[str, Array]:
    """Images that no chain knows, and what they are."""
    if net.name == "mnist":
        return "held-out", mnist()[1][:CHAINS]
    return "other", annealed(net, LEVELS, "baoab-limit", seed=2, h=1.0)


def rows(net: Network) -> list[dict[str, Callable[[], Array]]]:
    """What draws the images of every cell: of the single level, of its steps that follow the score, through the levels.

    Schemes that close a level with a score and open the next with one share it: an evaluation a level, as the others.
    """
    level, h = net.at(), net.card.h
    noise = level.sigma / level.alpha
    here, middle = uldnum.levels.given([noise]), LEVELS.below(noise)
    down = uldnum.levels.given(np.geomspace(noise, 0.05, REFINED))
    limit = partial(single, net, "baoab-limit", 1.0)
    follow = partial(annealed, net, here, "baoab-limit", snr=ADAPTIVE * h)
    fall = partial(annealed, net, middle, "baoab-limit", h=1.0)
    refine = partial(annealed, net, down, "ddim")

    def shown(x: Array) -> Array:
        return level.denoise(level.alpha * x)

    def still(scheme: str, share: float) -> Array:
        return shown(single(net, scheme, share, NFE - 1))

    alone: dict[str, Callable[[], Array]] = {
        name: partial(still, scheme, share) for name, (scheme, share) in SCHEMES.items()
    }
    following: dict[str, Callable[[], Array]] = {
        name: partial(annealed, net, here, scheme, steps=NFE - 1, snr=ADAPTIVE * share * h)
        for name, (scheme, share) in SCHEMES.items()
    }
    through: dict[str, Callable[[], Array]] = {
        name: partial(annealed, net, LEVELS, scheme, h=min(share * h, 1.0), boundary="shared")
        for name, (scheme, share) in SCHEMES.items()
    }
    alone["G  baoab-limit, then DDIM"] = lambda: refine(limit(NFE - REFINED))
    following["G  baoab-limit, then DDIM"] = lambda: refine(follow(steps=NFE - REFINED, denoise=False))
    through["G  baoab-limit from the middle, of a chain"] = lambda: fall(limit(NFE - len(middle)))
    what, images = unknown_images(net)
    noised = images + noise * np.random.default_rng(1).normal(size=images.shape)
    alone[f"H  {what} images, noised and denoised"] = lambda: shown(noised)
    following["H  baoab-limit, of noised images"] = lambda: follow(noised, steps=NFE - 1)
    through["H  baoab-limit from the middle, of noised images"] = lambda: fall(noised)
    return [alone, following, through]


def counted(net: Network, make: Callable[[], Array]) -> tuple[Array, int]:
    """Return images, and how many evaluations each took."""
    before = net.images
    return make(), (net.images - before) // CHAINS


def draw(net: Network) -> None:
    """Draw the cells of a network."""
    require("matplotlib", "plot")
    from matplotlib.figure import Figure

    cells = rows(net)
    sigma = f"one level,\nsigma = {net.at().sigma:g}"
    labels = sigma, "one level,\nsteps follow\nthe score", f"through\n{NFE} levels"
    figure = Figure(figsize=(2 * len(cells[0]) + 1, 7.4), layout="constrained")
    grid = figure.subplots(len(cells), len(cells[0]), squeeze=False)
    for axes_of, row, label in zip(grid, cells, labels, strict=True):
        for axes, (name, make) in zip(axes_of, row.items(), strict=True):
            images, evaluations = counted(net, make)
            axes.imshow(mosaic(coloured(images, net.card), 4), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(f"{name.replace(', ', ',' + chr(10))}: {evaluations}", fontsize=8)
        axes_of[0].text(-0.06, 0.5, label, transform=axes_of[0].transAxes, ha="right", va="center", fontsize=9)
    figure.suptitle(f"{net.name}: {CHAINS} chains in each cell, and the score evaluations of each chain", fontsize=10)
    with atomic(FIGURES / f"grids-{net.name}.png") as file:
        figure.savefig(file, dpi=110)


def main() -> None:
    """Run all of them and draw."""
    for name in NETWORKS:
        draw(network(name))
