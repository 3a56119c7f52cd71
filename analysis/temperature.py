"""Page and figure: the temperatures of MILD and noise-denoise, exactly on a Gaussian and on a mixture of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import atomic, store
from uldnum._util.typing import Array
from uldnum.exact import gaussian, transfer_operator
from uldnum.plotting import look, save
from uldnum.targets.presets import bimodal_1d

# Integrator -> its temperature in the limit of small steps.
INTEGRATORS = {
    "ula": 1.0,
    "baoab-limit": 1.0,
    "BAOAB": 1.0,
    "mild(0.22)": 0.78,
    "mild(0.38)": 0.62,
    "mild(0.5)": 0.5,
    "noise-denoise(1)": 0.5,
}
H = np.geomspace(0.02, 1.0, 18)
SMALL = 0.02  # step size of the table and of the densities
X = np.linspace(-4.5, 5.5, 401)
HERE = Path(__file__).parent
DATA, PAGE = HERE / "data" / "temperature.nc", HERE / "temperature.md"
FIGURES = pictures("temperature")

TEXT = """# MILD and naive noise-denoise sample at a lower temperature

*Written by `python -m analysis temperature`; the numbers are those of `data/temperature.nc`.*

**As the step size tends to 0, the stationary distribution of `mild(beta)` does not converge to the target pi, but to
pi^(1/(1 - beta)): it samples at the temperature 1 - beta. `noise-denoise(eta)` samples at the temperature eta/2.
`noise-denoise(1)`, which is naive sampling by noising and denoising in turn, therefore samples pi^2.** Smaller steps do
not remove this bias. Neither paper mentions it.

![Variance on a Gaussian, weight of the smaller mode, and densities](../figures/temperature.png)

## Why

**MILD** (Shetty et al. 2024, Algorithm 1) is `y = x + beta v`, `v' = beta v + delta s(y)`,
`x' = x + v' + sqrt(2 delta) xi`. For small delta the memory of the momentum is 1/(1 - beta) steps, in which x hardly
moves. To leading order `v = delta s(x)/(1 - beta)` and `y = x`, so that the drift of x in one step is
`delta s/(1 - beta)`. Momentum thus multiplies the *force* by 1/(1 - beta), but not the *noise*: it is added to x
directly and has the variance 2 delta. In the time `t = n delta/(1 - beta)` the limit is

    dx = s dt + sqrt(2 (1 - beta)) dW,

which is Langevin dynamics at the temperature T = 1 - beta. Its stationary distribution is pi^(1/T). The dynamics is
also faster by the factor 1/(1 - beta); this acceleration is the purpose of momentum, and the lower temperature is its
cost. On N(0, 1/lambda), with k = delta lambda and q = 1 - k, the variance at any stable step size is

    lambda Var(x) = 2 [1 - beta q (1 - 2k) - beta^2 q^2 + beta^3 q^3] / [(1 - beta q)(2 - k + 2 beta q)]  ->  1 - beta.

**Noise-denoise** (Jain & Poole, eq. 3) is `x' = x + eta sigma^2 s + (eta - 1) sigma p + sigma xi`, `p' = xi`,
with sigma = h/2. Every normal enters twice, with weight sigma in its own step and (eta - 1) sigma in the next, which is
eta sigma in total. Over many steps the variance of the noise is thus `eta^2 sigma^2` per step, and the drift is
`eta sigma^2 s`. In the time `t = n eta sigma^2` the limit is

    dx = s dt + sqrt(2 (eta/2)) dW,

which has the temperature eta/2. Only eta = 2 gives the temperature 1. That scheme is BAOAB-limit, in which the second
half of the noise is the correction. On the Gaussian, with kappa = h^2 lambda/4, the variance is
`lambda Var(x) = kappa + eta (1 - kappa)^2/(2 - eta kappa) -> eta/2`.

## Effect on two modes

On 0.7 N(1.5, 1) + 0.3 N(-1.5, 1) a temperature below 1 narrows the modes and reduces the weight of the smaller one,
because pi^(1/T) favours regions of high density. The table shows the exact values at h = {h:g}, computed with the
transfer operator (tolerance 1e-6). The weight of the smaller mode is the probability left of the saddle at
x = {saddle:.4f}.

{table}

Samples look sharper, and rare modes are lost. The apparent gain in quality is an effect of the temperature, and not of
the accuracy of the integrator.
"""


def saddle() -> float:
    """Return the position of the smallest density between the modes."""
    x = np.linspace(-1.5, 1.5, 30_001)
    return float(x[np.argmin(bimodal_1d().log_density(x[:, None]))])


def tempered(temperature: float) -> tuple[Array, float]:
    """Return the density on X and the weight of the smaller mode of pi^(1/temperature), by quadrature."""
    target, x = bimodal_1d(), np.linspace(-12, 12, 48_001)
    power = np.exp(target.log_density(x[:, None]) / temperature)
    whole, left = np.trapezoid(power, x), x <= saddle()
    weight = float(np.trapezoid(power[left], x[left]) / whole)
    return np.exp(target.log_density(X[:, None]) / temperature) / whole, weight


def study() -> xr.Dataset:
    """Return the data of the page and the figure."""
    target, divide = bimodal_1d(), saddle()
    laws = {name: [transfer_operator(name, target, h) for h in H] for name in INTEGRATORS}
    limits = [tempered(temperature) for temperature in INTEGRATORS.values()]
    data = {
        "variance": (("integrator", "h"), [gaussian(name, H).position_covariance for name in INTEGRATORS]),
        "weight": (("integrator", "h"), [[float(law.cdf(divide)) for law in row] for row in laws.values()]),
        "density": (("integrator", "x"), [row[0].density(X) for row in laws.values()]),
        "temperature": ("integrator", list(INTEGRATORS.values())),
        "limit_weight": ("integrator", [weight for _, weight in limits]),
        "limit_density": (("integrator", "x"), [density for density, _ in limits]),
    }
    coordinates = {"integrator": list(INTEGRATORS), "h": H, "x": X}
    return xr.Dataset(data, coordinates, {"saddle": divide, "uldnum": uldnum.__version__})


def write_page() -> None:
    """Write the page from the stored data."""
    data = xr.load_dataset(DATA)
    first = data.sel(h=SMALL)
    lines = [
        "| integrator | temperature T | Var(x) on N(0, 1) | weight of the smaller mode | that of pi^(1/T) |",
        "|---|---|---|---|---|",
    ]
    for name in map(str, data.integrator.values):
        one = first.sel(integrator=name)
        numbers = (one.temperature, one.variance, one.weight, one.limit_weight)
        lines.append(f"| `{name}` | " + " | ".join(f"{float(number):.4g}" for number in numbers) + " |")
    with atomic(PAGE) as file:
        file.write_text(TEXT.format(h=SMALL, saddle=data.saddle, table="\n".join(lines)), encoding="utf-8")


@paper()
def draw() -> None:
    """Draw the stored data."""
    from matplotlib.figure import Figure

    data = xr.load_dataset(DATA)
    figure = Figure(figsize=(TWO_COLUMNS, 2.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name in INTEGRATORS:
        one = data.sel(integrator=name)
        # Curves that coincide with others are dashed and drawn last.
        over = name in ("baoab-limit", "noise-denoise(1)")
        style: dict[str, Any] = {"color": look(name).colour}
        style |= {"linestyle": "--", "zorder": 2.5} if over else {}
        left.plot(data.h, one.variance, label=name, **style)
        middle.plot(data.h, one.weight, **style)
        if name in ("mild(0.5)", "noise-denoise(1)", "BAOAB"):
            right.plot(data.x, one.density, label=name, **style)
    for name in ("mild(0.22)", "mild(0.38)", "mild(0.5)", "ula"):
        one = data.sel(integrator=name)
        left.axhline(float(one.temperature), color="0.5", linewidth=0.6, linestyle=":", zorder=0)
        middle.axhline(float(one.limit_weight), color="0.5", linewidth=0.6, linestyle=":", zorder=0)
    half = data.sel(integrator="mild(0.5)")
    dots: dict[str, Any] = {"color": "0.3", "markersize": 2, "linestyle": "", "marker": "o", "zorder": 3}
    right.plot(data.x[::12], half.limit_density[::12], label="π², normalised", **dots)
    right.plot(data.x[::12], data.limit_density[0, ::12], label="target π", fillstyle="none", **dots)
    left.set(xscale="log", ylim=(0.4, 1.45), xlabel="step size h", title="N(0, 1): Var(x)")
    middle.set(xscale="log", xlabel="step size h", title="two modes: weight of the smaller mode")
    right.set(xlabel="x", title=f"two modes: density at h = {SMALL:g}")
    for axes in (left, middle):
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"], minor=False)
        axes.minorticks_off()
    right.legend(frameon=False, fontsize="small")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(
        "Exact values. Dotted: the temperature T (left) and the weight under π^(1/T) (middle)", fontsize="medium"
    )
    save(figure, *FIGURES)


def main() -> None:
    """Compute the data, store them, write the page, and draw the figure."""
    store(study(), DATA)
    write_page()
    draw()
