"""Page and figure: kinetic temperature of the catalogue against the step size, on the step and at the half step."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import atomic, store
from uldnum.exact import ConvergenceError, gaussian, max_stable_h, transfer_operator
from uldnum.plotting import save
from uldnum.schemes.catalogue import FAMILIES, Integrator

H, FRICTION = (0.25, 0.5, 1.0), 1.0
TARGETS = {"gaussian": "N(0, 1)", "bimodal-1d": "two modes"}
READINGS = {"step": "on the step", "half": "at the half step"}
TOLERANCE = 1e-5  # of exact values on two modes
CHAINS, STEPS, BURN_IN = 2000, 2000, 50.0  # burn-in in units of time
COLOURS, MARKERS = dict(zip(H, ("#56B4E9", "#0072B2", "#000000"), strict=True)), dict(zip(H, "osD", strict=True))
LINEAR = 1e-3  # the axes of the figure are linear up to this error, and logarithmic beyond
HERE = Path(__file__).parent
DATA, PAGE = HERE / "data" / "kinetic.nc", HERE / "kinetic.md"
FIGURES = pictures("kinetic")

TEXT = """# Kinetic temperature against the step size

*Written by `python -m analysis kinetic`; the numbers are those of `data/kinetic.nc`.*

**Read the kinetic temperature of BAOAB at the half step, where it is {half:.2%} too high at h = 1 on two modes and
exact on Gaussians; do not judge a step size by the temperature on the step, which is {cold:.0%} too low there although
the Kullback-Leibler divergence of the positions is only {kl:.5f} nats.** A kinetic temperature on the step within 1%
would need h = {small:.2f} on two modes, and {times:.1f} times as many score evaluations.

![Error of the kinetic temperature of the catalogue on two targets, on the step and at the half step]({figure})

The kinetic temperature is E[p^2] at unit mass. Its exact value is 1 at the temperature 1. All integrators of the
catalogue that have momenta and no Metropolis test are compared, at friction {friction:g}. With a Metropolis test it is
1 at any step size. The half step is the place in a splitting word where the last A ends (`Integrator.at_half_step`),
that is between the two A of BAOAB and between the two B of OBABO. Schemes that are not splitting words have no such
place here, although some of them have half-step velocities of their own. The two modes are `bimodal-1d`.

## The temperature does not rank integrators by their positions

* At h = 1 on two modes, the rank correlation between the error of the kinetic temperature on the step and the
  Kullback-Leibler divergence of the positions is {rank:.2f}, over {count} integrators (p-value {p:.2f}).
* {right} have exactly the kinetic temperature 1 on the step on N(0, 1). On a Gaussian, the palindrome of A and B
  between two O preserves a distribution of independent x and p in which the momenta have the variance 1, and so does O.
  The variance of x at h = 1 is {spread}.
* {exact} have exactly the variance 1 of x on N(0, 1). The kinetic temperature on the step is {least:.2f} to {most:.2f}
  at h = 1.
* BAOA ends its step after the last A of BAOAB. It is the same chain, so the temperature on its step is that at the half
  step of BAOAB. OpenMM's LangevinMiddleIntegrator reports the momenta of this place.

## The kinetic temperature in numbers

The columns state the exact kinetic temperature on the step at h = 0.5 and 1, at the half step at h = 1, and the power
of h with which its error on N(0, 1) grows on the step between h = {low:g} and {middle:g}. The last column is the
divergence of the positions, whose numerical error is about 1e-6. A dash stands for no value: the scheme is unstable,
has no half step, has no error, or has three rows, for which the distribution on two modes is not computed.

| integrator | N(0, 1), h = 0.5 | h = 1 | half step | power | two modes, h = 0.5 | h = 1 | half step | KL of x, h = 1 |
|---|---|---|---|---|---|---|---|---|
{table}

## Sampled values

The figure also shows sampled values: {chains:,} chains of {steps:,} steps with `record="phase-space-variance"`, after a
burn-in of {burn:g} units of time. The largest difference of {compared} sampled values from the exact ones is
{worst:.1f} standard errors, and the median standard error is {error:.5f}. For independent normal errors, the expected
largest difference is {expected:.1f} standard errors.
"""


def schemes() -> dict[str, str]:
    """Return the names of the integrators and their families."""
    return {
        entry.name: family
        for family, entries in FAMILIES.items()
        for entry in entries
        if entry.momenta and not entry.metropolised
    }


def readings(name: str) -> list[Integrator | None]:
    """Return the integrator whose steps end at each of `READINGS`; None if there is none."""
    scheme, half = uldnum.integrator(name), None
    with suppress(ValueError):
        half = scheme.at_half_step()
    return [scheme, half]


def exact(scheme: Integrator, target: str, h: float) -> tuple[float, float]:
    """Return the exact kinetic temperature and the Kullback-Leibler divergence of x; NaN where they are unknown."""
    if target == "gaussian":
        law = gaussian(scheme, h, friction=FRICTION)
        return float(law.kinetic_temperature), float(law.position_kl)
    with suppress(ConvergenceError):
        if scheme.rows <= 2:
            found = transfer_operator(scheme, target, h, friction=FRICTION, tolerance=TOLERANCE)
            return found.phase_space.kinetic_temperature, found.kl
    return np.nan, np.nan


def sampled(scheme: Integrator, target: str, h: float) -> tuple[float, float]:
    """Return the sampled kinetic temperature and its standard error."""
    run = uldnum.sample(
        target, scheme, h=h, friction=FRICTION, steps=STEPS, burn_in=int(BURN_IN / h), chains=CHAINS,
        record="phase-space-variance", progress=False,
    )  # fmt: skip
    return float(run.kinetic_temperature), float(run.kinetic_temperature_error)


def numbers(scheme: Integrator | None, target: str, h: float) -> tuple[float, ...]:
    """Return exact temperature, divergence of x, sampled temperature and its error; NaN if unstable."""
    if scheme is None or h >= max_stable_h(scheme, friction=FRICTION):
        return (np.nan,) * 4
    return *exact(scheme, target, h), *sampled(scheme, target, h)


def study() -> xr.Dataset:
    """Return the exact and sampled temperatures of all integrators."""
    names = schemes()
    found = np.array([
        [[[numbers(scheme, target, h) for h in H] for scheme in readings(name)] for name in names] for target in TARGETS
    ])  # fmt: skip
    dims = ("target", "integrator", "reading", "h")
    texts = {
        "exact": "exact kinetic temperature", "kl": "Kullback-Leibler divergence of x in nats",
        "sampled": "sampled kinetic temperature", "error": "standard error of the sampled kinetic temperature",
    }  # fmt: skip
    data: dict[str, Any] = {
        name: (dims, found[..., i], {"long_name": text}) for i, (name, text) in enumerate(texts.items())
    }
    variance = [[float(gaussian(name, h, friction=FRICTION).position_covariance) for h in H] for name in names]
    data["variance"] = (("integrator", "h"), variance, {"long_name": "exact variance of x on N(0, 1)"})
    coordinates = {
        "target": list(TARGETS), "integrator": list(names), "reading": list(READINGS), "h": list(H),
        "family": ("integrator", list(names.values())),
    }  # fmt: skip
    cold = within_a_percent()
    return xr.Dataset(data, coordinates, {"friction": FRICTION, "small": cold, "uldnum": uldnum.__version__})


def within_a_percent() -> float:
    """Return the step size at which the temperature of BAOAB on the step is 1% too low on two modes, by bisection."""
    low, high = 0.1, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        temperature, _ = exact(uldnum.integrator("BAOAB"), "bimodal-1d", middle)
        low, high = (middle, high) if temperature > 0.99 else (low, middle)
    return low


def listed(names: Iterable[Any]) -> str:
    """Return names as text."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}"


def write_page() -> None:
    """Write the page from the stored data."""
    data = xr.load_dataset(DATA)
    ends = data.sel(h=1.0, target="bimodal-1d")
    baoab, wrong = ends.sel(integrator="BAOAB"), np.abs(ends.exact.sel(reading="step") - 1)
    known = np.isfinite(wrong.values)
    ranks = spearmanr(wrong.values[known], ends.kl.sel(reading="step").values[known])
    normal = data.sel(target="gaussian", reading="step")
    right = (np.abs(normal.exact - 1) < 1e-10).all("h") & (normal.integrator != "BAOA")
    straight = (np.abs(normal.variance - 1) < 1e-10).all("h")
    spread = normal.variance.sel(h=1.0)[right.values]
    of_exact = normal.exact.sel(h=1.0)[(straight & (normal.integrator != "BAOA")).values]
    gaps = np.abs((data.sampled - data.exact) / data.error).values
    gaps = gaps[np.isfinite(gaps)]
    ordinary = np.abs(np.random.default_rng(0).normal(size=(1000, gaps.size))).max(axis=1).mean()

    def entry(value: xr.DataArray, digits: str = ".4f") -> str:
        return format(float(value), digits) if np.isfinite(value) else "-"

    lines = []
    for name in map(str, data.integrator.values):
        one = data.sel(integrator=name)
        cells = []
        for target in TARGETS:
            at = one.sel(target=target)
            cells += [entry(at.exact.sel(reading="step", h=h)) for h in H[1:]]
            cells.append(entry(at.exact.sel(reading="half", h=1.0)))
            if target == "gaussian":
                errors = np.abs(at.exact.sel(reading="step") - 1)
                zero = float(errors.min()) < 1e-10
                cells.append("-" if zero else entry(np.log2(errors.sel(h=H[1]) / errors.sel(h=H[0])), ".1f"))
        cells.append(entry(one.sel(target="bimodal-1d", reading="step", h=1.0).kl, ".2g"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    text = TEXT.format(
        half=float(baoab.exact.sel(reading="half")) - 1, cold=1 - float(baoab.exact.sel(reading="step")),
        kl=float(baoab.kl.sel(reading="step")), small=data.small, times=1 / data.small, friction=data.friction,
        rank=ranks.statistic, p=ranks.pvalue, count=known.sum(), right=listed(data.integrator.values[right]),
        spread=listed([f"{value:.3f}" for value in spread.values]), exact=listed(data.integrator.values[straight]),
        least=float(of_exact.min()), most=float(of_exact.max()), low=H[0], middle=H[1], table="\n".join(lines),
        chains=CHAINS, steps=STEPS, burn=BURN_IN, compared=gaps.size, worst=gaps.max(),
        error=float(data.error.median()), expected=ordinary, figure="../figures/kinetic.png",
    )  # fmt: skip
    with atomic(PAGE) as file:
        file.write_text(text, encoding="utf-8")


@paper()
def draw() -> None:
    """Draw the stored data."""
    from matplotlib.figure import Figure

    data = xr.load_dataset(DATA)
    names, families = data.integrator.values.tolist(), data.family.values.tolist()
    # Rows from top to bottom, with a gap between families.
    rows = -np.cumsum([1 + 0.8 * (i > 0 and families[i] != families[i - 1]) for i in range(len(names))])
    figure = Figure(figsize=(TWO_COLUMNS, 5), layout="constrained")
    panels = figure.subplots(1, 5, sharey=True)
    places = [(target, reading) for target in TARGETS for reading in READINGS]
    for axes, (target, reading) in zip(panels, places, strict=False):
        one = data.sel(target=target, reading=reading)
        axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        for h in H:
            at, look = one.sel(h=h), {"color": COLOURS[h], "linestyle": "", "markersize": 3.5}
            exactly, found = at.exact - 1, at.sampled - 1
            axes.plot(exactly, rows, marker=MARKERS[h], **look)
            alone = np.isnan(exactly) & np.isfinite(found)
            axes.plot(found.where(alone), rows, marker=MARKERS[h], markerfacecolor="white", **look)
            axes.errorbar(found, rows - 0.28, xerr=2 * at.error, fmt="none", ecolor=COLOURS[h], elinewidth=0.8)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.5)
        axes.set_xlim(-1, 2)
        axes.set_xticks([-0.1, -0.01, 0, 0.01, 0.1, 1], ["-0.1", "-0.01", "0", "0.01", "0.1", "1"])
        axes.tick_params(axis="x", rotation=90)
        axes.set_title(f"{TARGETS[target]}\n{READINGS[reading]}")
        axes.set_xlabel("kinetic\ntemperature - 1")
    for h in H:
        divergence = data.kl.sel(target="bimodal-1d", reading="step", h=h)
        look = {"color": COLOURS[h], "marker": MARKERS[h], "linestyle": "", "markersize": 3.5}
        panels[4].plot(divergence.where(divergence > TOLERANCE / 3), rows, **look)  # others are within their error
    panels[4].set(xscale="log")
    panels[4].set_title("two modes\npositions")
    panels[4].set_xlabel("KL divergence of x\n(nats)")
    for axes in panels:
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.tick_params(axis="y", length=0)
        axes.minorticks_off()
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(rows[-1] - 1, rows[0] + 1)
    for h in H:
        panels[0].plot(
            [], [], color=COLOURS[h], marker=MARKERS[h], linestyle="", markersize=3.5, label=f"h = {h:g}, exact"
        )
    panels[0].plot(
        [], [], color="0.2", marker="o", markerfacecolor="white", linestyle="", label="sampled, no exact value"
    )
    panels[0].errorbar([], [], xerr=[], fmt="none", ecolor="0.2", label="sampled, ± 2 standard errors")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(
        f"Kinetic temperature of the catalogue at temperature 1, friction {data.attrs['friction']:g}", fontsize="medium"
    )
    save(figure, *FIGURES)


def main() -> None:
    """Compute the data, store them, write the page, and draw the figure."""
    store(study(), DATA)
    write_page()
    draw()
