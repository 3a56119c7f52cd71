"""Figure: images from integrators at one noise level and through many, at equal cost (Jain & Poole 2022, figure 3).

Every cell shows the denoised final states of sixteen chains on a network. In the first row, chains stay at one noise
level. In the second row, they stay there with step sizes that follow the score. In the third row, they pass through the
levels from high to low noise. In column G, the first two rows refine the states of the single level by DDIM, and the
third row starts at an intermediate level from states of a chain. In column H, chains start from other noised images:
held-out images for MNIST, and images that the network generated for galaxies, where no data are available. The title of
a cell states the number of score evaluations that the network counted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import uldnum
from analysis import TWO_COLUMNS, paper
from analysis.quality import distance_at_one_level
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.networks import Network, network, reference_images
from uldnum.plans.levels import Levels
from uldnum.plotting.pictures import coloured, mosaic

FIGURES = Path(__file__).parents[1] / "figures"

NETWORKS = ("mnist", "galaxygrad-hsc32")
CHAINS = 16
NFE = 120
LEVELS = uldnum.levels.geometric(20.0, 0.05, NFE)  # values of sigma/alpha, which both networks support
REFINED = 20  # steps of the refinement, by which the chain is shorter

# Integrator, and step size in units of the card's (h = 2 sigma for mnist), as in analysis/chains.py.
SCHEMES = {
    "A  ula": ("ula", 0.45),
    "B  noise-denoise(1)": ("noise-denoise(1)", 1.0),
    "C  BAOAB": ("BAOAB", 0.45),
    "D  OBABO": ("OBABO", 0.45),
    "E  baoab-limit": ("baoab-limit", 1.0),
    "F  MILD(0.38)": ("mild(0.38)", 0.35),
}
# Signal-to-noise ratio of the adaptive steps: the step size in units of sigma where |s| = |xi|/sigma, as in pure noise.
ADAPTIVE = 0.35


def single(net: Network, scheme: str, share: float, steps: int = NFE) -> Array:
    """Return the final states of chains at the card's noise level, rescaled to alpha = 1."""
    level = net.at()
    run = uldnum.sample(level, scheme, h=share * net.card.h, steps=steps, chains=CHAINS, seed=1)
    return run.x / level.alpha


def annealed(net: Network, levels: Levels, method: str, x0: Any = None, seed: int = 1, **options: Any) -> Array:
    """Return the images at the end of a plan."""
    return uldnum.anneal(net, uldnum.plan(method, levels, **options), chains=CHAINS, seed=seed, x0=x0).x


def unknown_images(net: Network) -> tuple[str, Array]:
    """Return images that do not come from the chains of the figure, and a word that describes them."""
    if net.name == "mnist":
        return "held-out", np.asarray(reference_images("mnist-images").held_out)[:CHAINS]
    return "other", annealed(net, LEVELS, "baoab-limit", seed=2, h=1.0)


def rows(net: Network) -> list[dict[str, Callable[[], Array]]]:
    """Return the functions that compute the images of the cells, one dictionary for each row.

    The rows are: a single level, a single level with steps that follow the score, and all levels. A scheme that ends a
    level and starts the next one with a score evaluation shares it, so that all schemes need one evaluation per level.
    """
    level, h = net.at(), net.card.h
    noise = level.sigma / level.alpha
    here, middle = uldnum.levels.given([noise]), LEVELS.below(noise)
    down = uldnum.levels.given(np.geomspace(noise, 0.05, REFINED))
    limit = partial(single, net, "baoab-limit", 1.0)
    follow = partial(annealed, net, here, "baoab-limit", snr=ADAPTIVE * h)
    # These start from states of chains with the seed 1, so that their seed is another one.
    fall = partial(annealed, net, middle, "baoab-limit", h=1.0, seed=2)
    refine = partial(annealed, net, down, "ddim", seed=2)

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
    """Return images, and the number of score evaluations for each of them."""
    before = net.model.images
    return make(), (net.model.images - before) // CHAINS


def title(name: str, row: int, evaluations: int, distance: str) -> str:
    """Return the title of a cell. Below the first row, schemes are not named again."""
    letter = name[:1]
    named = row == 0 or letter > "F"
    lines = textwrap.wrap(name[1:].strip(), 17) if named else []
    return "\n".join([f"{letter}, {evaluations}", *lines, *filter(None, [distance])])


def draw(net: Network) -> None:
    """Draw the cells of a network."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    cells = rows(net)
    labels = f"one level,\nsigma = {net.at().sigma:g}", "one level,\nsteps follow\nthe score", f"through\n{NFE} levels"
    figure = Figure(figsize=(TWO_COLUMNS, 4.1), layout=ConstrainedLayoutEngine(h_pad=0.01, w_pad=0.015))
    grid = figure.subplots(len(cells), len(cells[0]), squeeze=False)
    for place, (axes_of, row, label) in enumerate(zip(grid, cells, labels, strict=True)):
        for axes, (name, make) in zip(axes_of, row.items(), strict=True):
            images, evaluations = counted(net, make)
            axes.imshow(mosaic(coloured(images, net.display), 4), interpolation="nearest")
            axes.set_axis_off()
            known = place == 0 and net.name == "mnist" and name in SCHEMES
            scheme, share = SCHEMES.get(name, ("", 0.0))
            distance = distance_at_one_level(scheme, share * net.card.h) if known else ""
            axes.set_title(title(name, place, evaluations, distance), fontsize="small", pad=2, linespacing=1.1)
        axes_of[0].text(-0.06, 0.5, label, transform=axes_of[0].transAxes, ha="right", va="center")
    what = f"{net.name}: {CHAINS} chains in each cell, and the score evaluations of each chain"
    remark = " (FD: Frechet distance of digits, from chains of 200 evaluations)" if net.name == "mnist" else ""
    figure.suptitle(what + remark, fontsize="medium")
    with atomic(FIGURES / f"grids-{net.name}.png") as file:
        figure.savefig(file, dpi=300)


def main() -> None:
    """Run all chains, and draw one figure for each network."""
    with paper():
        for name in NETWORKS:
            draw(network(name))
