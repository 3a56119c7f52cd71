"""Page and figures: joint and marginal laws of four splitting words on two wells, and their shadow work.

The layout is that of Fass et al. 2018, Entropy 20, 318. The laws and divergences are exact, from the transfer operator;
the estimates from shadow work are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import xarray as xr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import atomic, store
from uldnum._util.typing import Array
from uldnum.diagnostics import kl_by_shadow_work
from uldnum.exact import TransferOperator, transfer_operator
from uldnum.plotting import look, save
from uldnum.targets import Target
from uldnum.targets.user import quadrature_target

# Words, by their names in openmmtools and in this package.
WORDS = {"VRORV": "BAOAB", "OVRVO": "OBABO", "ORVRO": "OABAO", "RVOVR": "ABOBA"}
# Step sizes and tolerances of the exact laws. With the largest steps, the tails of the targets are unstable: no tighter
# tolerance can be reached. The steps of the double well are two thirds of those of the quartic.
H, TOLERANCES = np.array([0.1, 0.15, 0.2, 0.25, 0.3]), (1e-7, 1e-6, 1e-6, 1e-5, 1e-4)
# Friction, and a higher one, at which the laws of two words have divergences of x that need tighter tolerances.
FRICTION, HIGH, PAIR, TIGHTER = 1.0, 10.0, ("VRORV", "OVRVO"), (1e-8, 1e-8, 1e-7, 1e-6, 1e-4)
SHOWN = 2, 4  # indices of the steps whose densities are drawn
# Estimates: time of each of the two runs, chains, and index of the first step. At smaller steps they are only noise.
TIME, CHAINS, FIRST = 6.0, 60_000, 2
POINTS = 81
HERE = Path(__file__).parent
DATA, PAGE = HERE / "data" / "joint_laws.nc", HERE / "joint_laws.md"
FIGURES, WORK = pictures("joint_laws")[:1], pictures("shadow_work")

TEXT = """# Marginal and joint errors of four splitting words

*Written by `python -m analysis joint_laws`; the numbers are those of `data/joint_laws.nc`.*

{answer}

Fass et al. 2018 (Entropy 20, 318) compare four words in the letters V, R and O, which are B, A and O here, by the
Kullback-Leibler divergences of their laws of x and of (x, p) from the target. This page repeats the comparison with
exact divergences, on the quartic exp(-x^4) and on the double well exp(-2 (x^2 - 1)^2), the preset `double-well`.

![Difference between the joint law of each word and the target](../figures/joint_laws.png)

## Exact divergences

Divergences are in nats, at friction {friction:g}. In the last columns, that of x of each word is divided by that of
VRORV. All four words are unstable far in the tails of these targets, at any step. With the largest step of each target
the probability of these tails is not negligible, and the laws have a tolerance of {loosest:g}.

{table}

{heavy}

## Shadow work

![Divergences from shadow work beside the exact ones](../figures/shadow_work.png)

{agreement}
"""


def quartic() -> Target:
    """Return the density proportional to exp(-x^4)."""
    return quadrature_target(lambda x: -4 * x**3, lambda x: -(x**4), -4.0, 4.0, "quartic")


def wells() -> dict[str, tuple[Target, Array, Array]]:
    """Return the targets by name, with their step sizes and the positions at which densities are stored."""
    return {
        "quartic": (quartic(), H, np.linspace(-1.8, 1.8, POINTS)),
        "double-well": (uldnum.target("double-well"), H * 2 / 3, np.linspace(-2.0, 2.0, POINTS)),
    }


P = np.linspace(-3.6, 3.6, POINTS)


def laws(
    target: Target, steps: Array, word: str, friction: float, tolerances: Iterable[float]
) -> list[TransferOperator]:
    """Return the exact laws of a word at all step sizes."""
    return [
        transfer_operator(WORDS[word], target, h, friction=friction, tolerance=tolerance)
        for h, tolerance in zip(steps.tolist(), tolerances, strict=True)
    ]


def gaps(law: TransferOperator, x: Array) -> tuple[Array, Array]:
    """Return the densities of (x, p), in units of the largest, and of x, minus those of the target."""
    density = np.interp(x, law.target.x, law.target.density)
    exact = density[:, None] * np.exp(-(P**2) / 2) / math.sqrt(2 * math.pi)
    return (law.phase_space.density(x[:, None], P) - exact) / exact.max(), (law.density(x) - density) / density.max()


def estimates(target: Target, steps: Array) -> Array:
    """Return divergences of x and of (x, p) from shadow work, with errors, shape (words, steps - FIRST, 2, 2)."""
    return np.array([
        [
            [
                kl_by_shadow_work(target, word, h=h, steps=math.ceil(TIME / h), chains=CHAINS, joint=joint)
                for joint in (False, True)
            ]
            for h in steps[FIRST:].tolist()
        ]
        for word in WORDS.values()
    ])  # fmt: skip


def study() -> xr.Dataset:
    """Return the data of the page and of the figures."""
    targets, steps, positions = zip(*wells().values(), strict=True)
    pairs = list(zip(targets, steps, strict=True))
    exact = [[laws(*pair, word, FRICTION, TOLERANCES) for word in WORDS] for pair in pairs]
    heavy = [[[law.kl for law in laws(*pair, word, HIGH, TIGHTER)] for word in PAIR] for pair in pairs]
    divergences = [[[(law.kl, law.phase_space.kl) for law in row] for row in one] for one in exact]
    shown = [[[gaps(row[i], x) for i in SHOWN] for row in one] for one, x in zip(exact, positions, strict=True)]
    joint, marginal = ([[[pair[k] for pair in row] for row in one] for one in shown] for k in range(2))
    found = np.array([estimates(*pair) for pair in pairs])
    axes = ("target", "word", "large", "of")
    data: dict[str, Any] = {
        "exact": (("target", "word", "step", "of"), divergences, {"units": "nats"}),
        "heavy": (
            ("target", "pair", "step"),
            heavy,
            {"long_name": "divergence of x at high friction", "units": "nats"},
        ),
        "estimate": (axes, found[..., 0], {"long_name": "divergence from shadow work", "units": "nats"}),
        "error": (axes, found[..., 1], {"long_name": "standard error of the estimate", "units": "nats"}),
        "joint": (("target", "word", "shown", "point", "p"), np.array(joint, np.float32)),
        "marginal": (("target", "word", "shown", "point"), np.array(marginal, np.float32)),
        "h": (("target", "step"), np.array(steps)),
        "x": (("target", "point"), np.array(positions)),
    }
    coordinates = {"target": list(wells()), "word": list(WORDS), "pair": list(PAIR), "of": ["x", "(x, p)"], "p": P}
    attributes = {"friction": FRICTION, "high": HIGH, "chains": CHAINS, "time": TIME, "uldnum": uldnum.__version__}
    return xr.Dataset(data, coordinates, attributes)


def spread(values: xr.DataArray) -> str:
    """Return the smallest and the largest value as text, with two digits."""
    low, high = (f"{float(f'{float(value):.2g}'):g}" for value in (values.min(), values.max()))
    return f"{low} to {high}"


def table(data: xr.Dataset) -> str:
    """Return the table of exact divergences."""
    words = data.word.values.tolist()
    names = [*(f"{word}: x; (x, p)" for word in words), *(f"{word} / {words[0]}" for word in words[1:])]
    lines = [f"| target | h | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for name in data.target.values.tolist():
        for i, h in enumerate(data.h.sel(target=name).values.tolist()):
            values = data.exact.sel(target=name).isel(step=i).values.tolist()
            pairs = [f"{of_x:.2e}; {of_both:.2e}" for of_x, of_both in values]
            factors = [f"{of_x / values[0][0]:.1f}" for of_x, _ in values[1:]]
            lines.append(f"| {name} | {h:.3f} | {' | '.join([*pairs, *factors])} |")
    return "\n".join(lines)


def answer(data: xr.Dataset) -> str:
    """Return the answer in one sentence."""
    times = data.exact.sel(word="OVRVO") / data.exact.sel(word="VRORV")
    low, double = (spread(times.sel(of="x", target=name)) for name in data.target.values.tolist())
    return (
        f"The divergence of x of VRORV (BAOAB) is {low} times smaller than that of OVRVO (OBABO) on the quartic and "
        f"{double} times smaller on the double well at friction {data.attrs['friction']:g}, although its divergence of "
        f"(x, p) is {spread(1 / times.sel(of='(x, p)'))} times that of OVRVO."
    )


def agreement(data: xr.Dataset) -> str:
    """Return where the estimates agree with the exact divergences, as text."""
    exact = data.exact.isel(step=slice(FIRST, None)).rename(step="large")
    gap, share = np.abs(data.estimate - exact) / data.error, data.error / exact
    joint, others = gap.sel(of="(x, p)"), gap.sel(of="x", word=data.word[1:])
    lost, nearest, noise = int(np.isnan(joint).sum()), float(joint.max()), share.sel(of="(x, p)")
    of_best = share.sel(of="x", word="VRORV")
    excess = ((data.estimate - exact) / data.error).sel(word="ORVRO").isel(large=-1)
    return (
        "`uldnum.diagnostics.kl_by_shadow_work` estimates the same divergences with the near-equilibrium estimator of "
        f"Fass et al., here from {data.attrs['chains']:,} chains and two runs of time {data.attrs['time']:g}. The "
        f"estimates for (x, p) are within {nearest:.1f} standard errors of the exact values, and those for x of the "
        f"other three words within {float(others.max()):.1f}. At {lost} of the {joint.size} points chains diverged, so "
        f"that there is no estimate. For ORVRO at the largest steps, the estimates exceed the exact values by "
        f"{spread(excess)} standard errors, as they do on N(0, 1), where the estimator is too large for this word by a "
        f"tenth at h = 1. The standard errors are {spread(noise)} times the divergence of (x, p), but "
        f"{spread(of_best)} times that of x of VRORV. The noise is that of the work, whose mean is of the order of the "
        "divergence of (x, p). A much smaller divergence of x is therefore not resolved."
    )


def write_page() -> None:
    """Write the page from the stored data."""
    data = xr.load_dataset(DATA)
    times = data.heavy.sel(pair="OVRVO") / data.heavy.sel(pair="VRORV")
    names = data.target.values.tolist()
    factors = " and ".join(f"{spread(times.sel(target=name))} on the {name.replace('-', ' ')}" for name in names)
    high = (
        f"At friction {data.attrs['high']:g}, the divergence of x of VRORV is smaller than that of OVRVO by factors of "
    )
    wrapped = partial(fill, width=120, break_on_hyphens=False)
    text = TEXT.format(
        answer=wrapped(f"**{answer(data)}**"), table=table(data), heavy=wrapped(f"{high}{factors}."),
        agreement=wrapped(agreement(data)), friction=data.attrs["friction"], loosest=max(TOLERANCES),
    )  # fmt: skip
    with atomic(PAGE) as file:
        file.write_text(text, encoding="utf-8")


@paper()
def draw() -> None:
    """Draw the stored data."""
    data = xr.load_dataset(DATA)
    draw_laws(data)
    draw_work(data)


def draw_laws(data: xr.Dataset) -> None:
    """Draw the differences between the joint laws and the target, with those of the marginal laws above."""
    from matplotlib.figure import Figure

    targets, words = data.target.values.tolist(), data.word.values.tolist()
    columns = [(name, i) for name in targets for i in range(len(SHOWN))]
    figure = Figure(figsize=(TWO_COLUMNS, 8.2), layout="constrained")
    grid = figure.subplots(2 * len(words), len(columns), height_ratios=[1, 2.4] * len(words))
    largest = {name: float(np.abs(data.joint.sel(target=name)).max()) for name in targets}
    tallest = {name: 1.1 * float(np.abs(data.marginal.sel(target=name)).max()) for name in targets}
    for row, word in enumerate(words):
        for column, (name, i) in enumerate(columns):
            one = data.sel(target=name, word=word).isel(shown=i)
            x, step = data.x.sel(target=name).values, SHOWN[i]
            top, map = grid[2 * row, column], grid[2 * row + 1, column]
            top.axhline(0, color="0.6", linewidth=0.7)
            top.plot(x, one.marginal, color="0.1", linewidth=0.9)
            top.set(xlim=(x[0], x[-1]), ylim=(-tallest[name], tallest[name]), xticks=[], yticks=[])
            limits = {"vmin": -largest[name], "vmax": largest[name], "cmap": "RdBu_r", "shading": "gouraud"}
            map.pcolormesh(x, data.p, one.joint.T, rasterized=True, **limits)
            of_x, of_both = data.exact.sel(target=name, word=word).isel(step=step).values
            map.text(0.03, 0.03, f"x: {of_x:.1e}\n(x, p): {of_both:.1e}", transform=map.transAxes, fontsize="small")
            map.set(yticks=[-3, 0, 3] if column == 0 else [])
            map.tick_params(labelbottom=row == len(words) - 1)
            if row == 0:
                top.set_title(f"{name}, h = {float(data.h.sel(target=name)[step]):.2g}")
            if column == 0:
                map.set_ylabel(f"{word} ({WORDS[word]})\np")
            if row == len(words) - 1:
                map.set_xlabel("x")
    figure.suptitle(
        "Exact laws minus target, at friction 1: (x, p) as colours (red: too much), x as curves above.\n"
        "One scale for each target. Numbers: divergences of x and of (x, p) in nats.",
        fontsize="medium",
    )
    save(figure, *FIGURES)


def draw_work(data: xr.Dataset) -> None:
    """Draw divergences from shadow work beside the exact ones."""
    from matplotlib.figure import Figure

    targets, kinds = data.target.values.tolist(), data.of.values.tolist()
    figure = Figure(figsize=(TWO_COLUMNS, 5.2), layout="constrained")
    grid = figure.subplots(len(targets), len(kinds), sharey=True)
    least = 1e-6
    for row, name in enumerate(targets):
        h = data.h.sel(target=name).values
        for axes, kind in zip(grid[row], kinds, strict=True):
            for i, (word, own) in enumerate(WORDS.items()):
                one = data.sel(target=name, word=word, of=kind)
                colour, moved = look(own).colour, h[FIRST:] * (1 + 0.015 * (i - 1.5))
                axes.plot(h, one.exact, color=colour, label=f"{word} ({own})")
                value, error = one.estimate.values, one.error.values
                low = np.maximum(value - 2 * error, least)
                axes.vlines(moved, low, np.maximum(value + 2 * error, least), color=colour, linewidth=1)
                seen = value > least
                axes.plot(moved[seen], value[seen], look(own).marker, color=colour)
            axes.set(xscale="log", yscale="log", ylim=(least, 0.05), title=f"{name}: divergence of {kind} (nats)")
            axes.set_xticks(h, [f"{step:.2g}" for step in h], minor=False)
            axes.minorticks_off()
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.set_xlabel("step size h")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Lines: exact. Points: from shadow work, with two standard errors", fontsize="medium")
    save(figure, *WORK)


def main() -> None:
    """Compute the data, store them, write the page, and draw the figures."""
    store(study(), DATA)
    write_page()
    draw()
