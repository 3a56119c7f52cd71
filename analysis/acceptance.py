"""Page and figure: the acceptance of Metropolis tests against the KL divergence of the same schemes without a test.

Both numbers are exact. On the targets that are not Gaussian, the acceptance is an integral over position and momentum,
and the divergences come from the transfer operator.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import atomic, store
from uldnum._util.typing import Array
from uldnum.exact import ConvergenceError, acceptance, gaussian, transfer_operator
from uldnum.kernels.reference import apply, energy
from uldnum.plotting import save
from uldnum.schemes.catalogue import THREE, Integrator
from uldnum.targets.user import UserTarget, quadrature_target

# Shares of the outer letters: smallest error of the flow (McLachlan 1995, SIAM J. Sci. Comput. 16, 151), and smallest
# error of the energy in Hamiltonian Monte Carlo (Blanes, Casas & Sanz-Serna 2014).
MCLACHLAN, TWO = 0.1931833275037836, 0.21178
# Label -> letters between the braces, fractions of their kinds, and score evaluations.
PROPOSALS = {
    "BAB": ("BAB", (0.5, 1, 0.5), 1),
    "ABA": ("ABA", (0.5, 1, 0.5), 1),
    "2 x BAB": ("BABAB", (0.25, 0.5, 0.5, 0.5, 0.25), 2),
    "2 x ABA": ("ABABA", (0.25, 0.5, 0.5, 0.5, 0.25), 2),
    "BABAB, McLachlan": ("BABAB", (MCLACHLAN, 0.5, 1 - 2 * MCLACHLAN, 0.5, MCLACHLAN), 2),
    "ABABA, McLachlan": ("ABABA", (MCLACHLAN, 0.5, 1 - 2 * MCLACHLAN, 0.5, MCLACHLAN), 2),
    "BABAB, Blanes et al.": ("BABAB", (TWO, 0.5, 1 - 2 * TWO, 0.5, TWO), 2),
    "BABABAB, Blanes et al.": (
        "BABABAB",
        (THREE[0], THREE[1], 0.5 - THREE[0], 1 - 2 * THREE[1], 0.5 - THREE[0], THREE[1], THREE[0]),
        3,
    ),
}
# Times per score evaluation.
TIMES = {
    "gaussian": np.array([0.25, 0.5, 0.75, 1.0, 1.25]),
    "quartic": np.array([0.15, 0.25]),
    "double-well": np.array([0.06, 0.09]),
}
FRICTION, TOLERANCE = 1.0, 1e-5
HERE = Path(__file__).parent
# Smallest divergences that are compared, except on the Gaussian. That of x has an error of a tenth of the tolerance.
# The error of the other is not checked, and was up to ten times the tolerance.
RESOLVED = {"position_kl": TOLERANCE, "phase_space_kl": 20 * TOLERANCE}
DATA, PAGE = HERE / "data" / "acceptance.nc", HERE / "acceptance.md"
FIGURES = pictures("acceptance")


def quartic() -> UserTarget:
    """Return the density proportional to exp(-x^4/4)."""
    return quadrature_target(lambda x: -(x**3), lambda x: -(x**4) / 4, -5.0, 5.0, "quartic")


def schemes(label: str) -> tuple[Integrator, Integrator]:
    """Return the schemes with and without a Metropolis test."""
    letters, fractions, _ = PROPOSALS[label]
    shares = (0.5, *fractions, 0.5)
    return uldnum.splitting(f"O{{{letters}}}O", shares), uldnum.splitting(f"O{letters}O", shares)


def quadrature(scheme: Integrator, target: Any, h: float) -> float:
    """Return the mean acceptance in equilibrium by the trapezoidal rule on a grid of x and p."""
    x = target.mean + target.standard_deviation * np.linspace(-7, 7, 1401)
    p = np.linspace(-7, 7, 1001)
    state = np.stack([part.ravel()[:, None] for part in np.meshgrid(x, p, indexing="ij")], axis=1)
    begun, step = energy(state, target.log_density), scheme.stages(h)
    nothing, weight = np.zeros((len(state), 0, 1)), np.exp(begun.min() - begun)
    for stage in step.stages:
        state = apply(stage.map, state, target.score(state[:, 0]), nothing)
    with np.errstate(over="ignore"):
        accepted = np.exp(np.minimum(begun - energy(state, target.log_density), 0))
    return float((weight * np.nan_to_num(accepted)).sum() / weight.sum())


def point(label: str, target: Any, time: float) -> tuple[float, float, float]:
    """Return the rejection, and the divergences of x and of (x, p); NaN where they are not resolved."""
    tested, plain = schemes(label)
    h = time * PROPOSALS[label][2]
    if target == "gaussian":
        law = gaussian(plain, h=h, friction=FRICTION)
        return 1 - float(acceptance(tested, h=h)), float(law.position_kl), float(law.phase_space_kl)
    rejected = 1 - quadrature(tested, target, h)
    try:
        exact = transfer_operator(plain, target, h, friction=FRICTION, tolerance=TOLERANCE)
        return rejected, exact.kl, exact.phase_space.kl
    except ConvergenceError:
        return rejected, np.nan, np.nan


def study() -> xr.Dataset:
    """Return the numbers of all proposals, at equal times per score evaluation."""
    targets = {"gaussian": "gaussian", "quartic": quartic(), "double-well": uldnum.target("double-well")}
    rows = [
        (name, time, [point(label, target, time) for label in PROPOSALS])
        for name, target in targets.items()
        for time in TIMES[name].tolist()
    ]
    found = np.array([row[2] for row in rows])
    dims = ("case", "proposal")
    data = {
        "rejection": (dims, found[..., 0], {"long_name": "mean fraction of rejected proposals", "units": "1"}),
        "position_kl": (dims, found[..., 1], {"long_name": "KL divergence of x", "units": "nats"}),
        "phase_space_kl": (dims, found[..., 2], {"long_name": "KL divergence of (x, p)", "units": "nats"}),
    }
    coordinates = {
        "target": ("case", [row[0] for row in rows]),
        "time": ("case", [row[1] for row in rows], {"long_name": "time per score evaluation"}),
        "proposal": list(PROPOSALS),
    }
    attributes = {"friction": FRICTION, "tolerance": TOLERANCE, "uldnum": uldnum.__version__}
    return xr.Dataset(data, coordinates, attributes)


TEXT = """# Does acceptance rank integrators?

*Written by `python -m analysis acceptance`; the numbers are those of `data/acceptance.nc`.*

**{answer}**

![KL divergence against the fraction of rejected proposals](../figures/acceptance.png)

The acceptance of a Metropolis test is often used to compare the letters between its braces, because it is easily
measured. This page compares it with the bias of the same scheme without a test. The schemes are `O {{w}} O` and `O w
O`, where w is one of eight palindromes of A and B: one and two leapfrog steps, and compositions of two and three
stages whose fractions make the error of the flow (McLachlan 1995) or of the energy (Blanes, Casas & Sanz-Serna 2014)
small. All have the same time per score evaluation, so that they cost the same. The bias is the Kullback-Leibler
divergence of the stationary distribution, of x or of (x, p), at friction {friction:g}. All numbers are exact: closed
forms on N(0, 1), and on the quartic density exp(-x^4/4) and the double well exp(-2 (x^2 - 1)^2) integrals over (x, p)
and the transfer operator (tolerance {tolerance:g}).

## Why it fails

A palindrome w conserves an energy `H + h^2 H_2 + O(h^4)`. The test measures how much `h^2 H_2` changes in one step,
and the divergence measures how much it varies in the stationary distribution. Two cases differ most:

* Two leapfrog steps in one test have nearly the divergence of one, because the scheme without a test differs only in
  how often it refreshes the momentum. The fraction of rejected proposals is almost twice as large at small steps.
* BAB and ABA have the same acceptance on a Gaussian, and nearly the same on the quartic. The divergence of x of ABA
  is {aba:.2g} times that of BAB on the quartic at time {aba_time:g}.

On a Gaussian, H_2 is a quadratic form for every w, so that both numbers measure its size, and the order is nearly right
up to time 1. On the other targets the order of proposals with similar acceptance says nothing about their divergences.

## Numbers

Each line compares the eight proposals at one time per evaluation: the rank correlation of the rejection and the
divergence, the number of pairs in which the proposal with the smaller rejection has the larger divergence, and the
largest ratio of divergences of these pairs (below 1: no pair is in the wrong order). Numbers that differ by less than
5%, and divergences from the transfer operator below {of_x:g} (x) and {of_both:g} (x, p), are not compared.

| target | time | x: correlation | wrong pairs | worst ratio | (x, p): correlation | wrong pairs | worst ratio |
|---|---|---|---|---|---|---|---|
{table}

The worst pair for x is {position_kl_where}. For (x, p) it is
{phase_space_kl_where}.
"""


def wrong_pairs(rejection: Array, divergence: Array) -> dict[tuple[int, int], float]:
    """Return the ratio of the divergences for all pairs in which the first proposal is accepted more often.

    The pair is in the wrong order if the ratio exceeds 1. Pairs whose rejections or divergences differ by less than 5%
    are left out.
    """
    pairs = [(i, j) for i, j in permutations(range(len(rejection)), 2) if rejection[i] < 0.95 * rejection[j]]
    ratios = {(i, j): float(divergence[i] / divergence[j]) for i, j in pairs}
    return {pair: ratio for pair, ratio in ratios.items() if abs(np.log(ratio)) > 0.05}


def numbers(data: xr.Dataset) -> dict[str, str]:
    """Return the numbers of the page."""
    lines = dict.fromkeys(range(data.sizes["case"]), "")
    found: dict[str, str] = {}
    for kind, least in RESOLVED.items():
        wrong = total = 0
        worst, where = 0.0, ""
        for case in lines:
            one = data.isel(case=case)
            if one.target.item() != "gaussian":  # the numbers of the Gaussian are exact
                one = one.isel(proposal=one[kind].values >= least)
            names, rejection, divergence = (one[name].values for name in ("proposal", "rejection", kind))
            ratios = wrong_pairs(rejection, divergence)
            count = sum(ratio > 1 for ratio in ratios.values())
            wrong, total = wrong + count, total + len(ratios)
            if not ratios:
                lines[case] += " | | |"
                continue
            (i, j), ratio = max(ratios.items(), key=lambda item: item[1])
            lines[case] += (
                f" {spearmanr(rejection, divergence).statistic:.2f} | {count} of {len(ratios)} | {ratio:.2g} |"
            )
            if ratio > worst:
                worst = ratio
                where = f"{names[i]} and {names[j]} on {one.target.item()} at time {one.time.item():g}"
        found |= {f"{kind}_wrong": f"{wrong} of {total}", f"{kind}_worst": f"{worst:.2g} times", f"{kind}_where": where}
    heads = (f"| {data.target.values[case]} | {data.time.values[case]:g} |" for case in lines)
    return found | {"table": "\n".join(head + line for head, line in zip(heads, lines.values(), strict=True))}


def write_page() -> None:
    """Write the page from the stored data."""
    data = xr.load_dataset(DATA)
    of_quartic = data.isel(case=np.flatnonzero(data.target.values == "quartic")[-1])
    ratio = of_quartic.position_kl.sel(proposal="ABA") / of_quartic.position_kl.sel(proposal="BAB")
    found = numbers(data)
    answer = (
        f"Only roughly: acceptance orders {found['position_kl_wrong']} pairs of proposals of equal cost wrongly by the "
        f"divergence of x, and {found['phase_space_kl_wrong']} by that of (x, p); in the worst pair, the proposal that "
        f"is accepted more often has {found['position_kl_worst']} the divergence of the other."
    )
    text = TEXT.format(
        answer=fill(answer, 118), aba=float(ratio), aba_time=float(of_quartic.time), friction=data.friction,
        tolerance=data.tolerance, of_x=RESOLVED["position_kl"], of_both=RESOLVED["phase_space_kl"], **found,
    )  # fmt: skip
    with atomic(PAGE) as file:
        file.write_text(text, encoding="utf-8")


@paper()
def draw() -> None:
    """Draw the stored data."""
    from matplotlib.figure import Figure

    data = xr.load_dataset(DATA)
    figure = Figure(figsize=(TWO_COLUMNS, 2.9), layout="constrained")
    targets = list(dict.fromkeys(data.target.values.tolist()))
    panels = figure.subplots(1, len(targets))
    colours = ("#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#000000", "#999999")
    for axes, target in zip(panels, targets, strict=True):
        part = data.isel(case=data.target.values == target)
        known = part.position_kl.where((part.position_kl >= RESOLVED["position_kl"]) | (target == "gaussian"))
        for number, (name, colour) in enumerate(zip(data.proposal.values.tolist(), colours, strict=True)):
            style: dict[str, Any] = {"color": colour, "marker": "osD^vP*X"[number]}
            axes.plot(part.rejection.sel(proposal=name), known.sel(proposal=name), label=name, **style)
        times = ", ".join(f"{time:g}" for time in part.time.values)
        axes.set(xscale="log", yscale="log", xlabel="fraction of rejected proposals")
        axes.set_title(f"{target}, times {times}")
        axes.grid(alpha=0.25, linewidth=0.5)
        if target != "gaussian":
            axes.set(xlim=(4e-4, 2.5e-2), ylim=(RESOLVED["position_kl"], 2e-3))
    panels[0].set_ylabel("divergence of x without a test, nats")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Each point is a proposal at one time per evaluation; times grow along a line", fontsize="medium")
    save(figure, *FIGURES)


def main() -> None:
    """Compute the data, store them, write the page, and draw the figure."""
    store(study(), DATA)
    write_page()
    draw()
