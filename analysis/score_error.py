"""Page and figure: the bias of integrators with a noisy score, and with the score of a small network.

The noisy part is exact: at each noise level the step size is the one at which an independent sample has a given cost.
The network is trained here. It is the gradient of a potential, so its own bias follows from quadrature in the plane.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numba import njit
from scipy.optimize import minimize, root_scalar

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import atomic, store
from uldnum._util.typing import Array
from uldnum.plotting import look, save
from uldnum.studies.exact import exact_answers
from uldnum.targets.presets import bimodal_1d, gaussian, ring_8

# Integrator -> whether it depends on the friction.
INTEGRATORS = {"ula": False, "baoab-limit": False, "mild(0.5)": False, "BAOAB": True, "OBABO": True, "UBU": True}
HERE = Path(__file__).parent
METRICS = ("wasserstein_1", "second_moment")
DATA, PAGE = HERE / "data" / "score_error.nc", HERE / "score_error.md"
FIGURES = pictures("score_error")

TEXT = """# Integrators with a noisy score and with a wrong score

*Written by `python -m analysis score_error`; the numbers are those of `data/score_error.nc`.*

Which integrator is least hurt by a noisy score at equal cost? At which step size does the bias of an integrator
exceed the error of a network?

**At equal cost a noisy score hurts these integrators equally: on N(0, 1), errors of standard deviation tau add
tau^2/C to the variance, within {deviation:.0%}, for ULA, BAOAB-limit and, at frictions of 1 and 2, BAOAB, OBABO and
UBU, where C is the number of score evaluations for an independent sample (at friction 0.5 they add {low:.1f} times as
much). An accurate integrator therefore loses its advantage as the noise grows: on two modes at C = {cost:g} and
friction 1, the Wasserstein-1 distance of ULA is {ratio_0:.0f} times that of BAOAB without noise, {ratio_half:.1f}
times at tau = 0.5 and {ratio_2:.2f} times at tau = 2. With the score of a network whose root mean square error is
{score_error:.1%}, the bias of the integrator exceeds that of the network from these step sizes on:
{steps}.**

![Bias against score noise at equal cost, and against step size for a network](../figures/score_error.png)

*Left and middle: exact distances to the target at equal cost, with friction 1 for kinetic schemes. The dotted line
is the distance of N(0, 1 + tau^2/C). Right: biases on `ring-8`, sampled with the exact score (lines) and with that
of the network (hollow markers), with errors. Bars that reach the lower edge mark values that are not resolved. The
dash-dotted line is the exact bias of the network.*

## A noisy score

The score of each evaluation is `s + tau zeta` with independent standard normals zeta. The cost C is the number of
score evaluations for an independent sample, that is the longer of the autocorrelation times of x and x^2. For each
tau the step size is the one with C = {cost:g}. All values are exact (`exact.gaussian`, and
`exact.transfer_operator` with tolerance 1e-4).

{noisy}

* **Why the cost alone matters.** For ULA on N(0, 1), `Var(x) = (1 + delta tau^2/2)/(1 - delta/2)` and
  `C = (2 - delta)/delta`, so that noise adds exactly tau^2/C. With friction gamma and a small step, the errors add
  h^2 tau^2 to the variance 2 gamma h of the noise of a step. The temperature becomes 1 + h tau^2/(2 gamma), and x has
  the autocorrelation time 2 gamma/h, which gives tau^2/C again. Below friction 1, x^2 is slower than x. The added
  variance is then larger by the factor (1 + gamma^2)/(2 gamma^2), which is 2.5 at friction 0.5.
* **Averaging does not help.** The mean of m noisy scores has errors of variance tau^2/m and costs m evaluations. At
  equal cost it adds the same variance. Half the added variance costs twice as many evaluations, with or without
  averaging.
* **Smaller distances are cancellations.** Without noise, the variance of UBU is too small, and `mild(0.5)` samples
  at half the temperature ([derivation](temperature.md)). Noise increases both. The distance of `mild(0.5)` on two
  modes is smallest at tau = {mild_tau:g} among the values of the figure, where it is {mild_best:.3f}.

## The score of a network

`ring-8` is the distribution of eight points with normal noise of standard deviation {sigma:g}. The network
`D(z) = sum_j a_j w_j tanh(w_j.z + b_j)` with {units} units denoises {points} noised points with least mean square error
({iterations} iterations of L-BFGS, less than 10 s on one core), and its score is `(D(z) - z)/{sigma:g}^2`. Its root
mean square error under `ring-8` is {score_error:.1%} of the root mean square of the score. D is a gradient, so the
network has a density. Quadrature on {nodes} x {nodes} nodes gives the bias of this density: {own_distance:.4f}
standard deviations in the mean Wasserstein-1 distance of the marginals, and {own_second:.4f} standard deviations of
x^2 in the second moment.

The table shows where the bias with the *exact* score reaches these values, interpolated between step sizes. Errors
follow from those of the sampled bias, that is its standard error or its noise floor, whichever is larger. They do
not include the error of interpolation.

{crossings}

* Below these steps the error of the network is the larger one. At these steps an independent sample costs
  {cost_ratio:.1f} ± {cost_ratio_error:.1f} times as many evaluations with ULA as with BAOAB.
* With the score of the network the bias at small steps is that of its density: at h = {small:g} it is {sampled:.4f}
  ± {sampled_error:.4f} with BAOAB. At large steps it is close to the bias with the exact score.
* In the Wasserstein-1 distance `mild(0.5)` is more biased than the network at every step of the figure.

## Limits

The errors are normal and have the same variance everywhere; those of minibatches depend on the position. The
targets of the noisy score have one dimension, and only C = {cost:g} was computed. There is one network, of one size
and one seed; for a network with another bias, the right panel shows the steps at which the curves reach it. Biases
in the plane are those of the marginals, and only friction {ring_friction:g} was run, with 4096 chains of
{nfe_exact} evaluations (exact score) or {nfe_network} (network) at each step size.
"""

# ------------------------------------------------------------------------------------------------------- a noisy score

COST = 20.0  # score evaluations for an independent sample
TAU = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # standard deviations of the error of the score
FRICTIONS = (0.5, 1.0, 2.0)
TARGETS = {"gaussian": gaussian, "bimodal-1d": bimodal_1d}
START = 0.5  # first step size of the search


def answer(log_h: float, scheme: uldnum.Integrator, target: str, friction: float) -> tuple[float, float, float]:
    """Return the cost, the Wasserstein-1 distance, and the signed bias of the second moment at a step size.

    The cost is the longer of the autocorrelation times of x and x^2, as in `uldnum.studies.frontier`.
    """
    found = exact_answers(scheme, TARGETS[target](), float(np.exp(log_h)), friction, 1e-4, METRICS, True)
    return max(found["time"].values()), found["bias"]["wasserstein_1"], found["signed"]["second_moment"][0]


def relative_cost(log_h: float, *of: Any) -> float:
    """Return the logarithm of the cost divided by `COST`."""
    return float(np.log(answer(log_h, *of)[0] / COST))


def at_equal_cost(name: str, target: str, friction: float) -> list[tuple[float, ...]]:
    """Return the step size at which the cost is `COST`, and the answers there, for each noise level."""
    rows: list[tuple[float, ...]] = []
    log_h = float(np.log(START))
    for tau in TAU:
        of = (uldnum.integrator(name).at(score_noise=tau), target, friction)
        log_h = float(root_scalar(relative_cost, of, x0=log_h, x1=log_h - 0.1, xtol=3e-3).root)
        rows.append((float(np.exp(log_h)), *answer(log_h, *of)))
    return rows


def with_noise() -> xr.Dataset:
    """Return step size, reached cost, distance and bias of the second moment at equal cost."""

    def over_frictions(name: str, target: str) -> list[list[tuple[float, ...]]]:
        if INTEGRATORS[name]:
            return [at_equal_cost(name, target, friction) for friction in FRICTIONS]
        return [at_equal_cost(name, target, FRICTIONS[0])] * len(FRICTIONS)

    rows = np.array([[over_frictions(name, target) for name in INTEGRATORS] for target in TARGETS])
    dimensions = ("target", "integrator", "friction", "tau")
    names = ("step", "step_cost", "distance", "second_moment")
    data = {name: (dimensions, rows[..., i]) for i, name in enumerate(names)}
    return xr.Dataset(data, dict(zip(dimensions, ([*TARGETS], [*INTEGRATORS], [*FRICTIONS], [*TAU]), strict=True)))


# ----------------------------------------------------------------------------------------------- the score of a network

UNITS, POINTS, ITERATIONS, SEED = 32, 16_384, 400, 0
SIGMA = 0.5  # ring-8 is eight points of radius 2 with noise of this standard deviation
NODES = np.linspace(-5.0, 5.0, 401)  # on each axis of the plane
H = np.geomspace(0.25, 0.95, 10)
RING_FRICTION = 1 / SIGMA
NFE, NETWORK_NFE = 10_000, 5_000


def loss(parameters: Array, noised: Array, clean: Array) -> tuple[float, Array]:
    """Return the mean square error of the denoiser and its gradient; parameters are rows of `train`, flattened."""
    w, b, a = np.split(parameters.reshape(4, -1), [2, 3])
    t = np.tanh(noised @ w + b)
    residual = (a * t) @ w.T - clean
    along = residual @ w
    inner = a * along * (1 - t**2)
    gradient = np.vstack([a * (residual.T @ t) + noised.T @ inner, inner.sum(axis=0), (along * t).sum(axis=0)])
    return float(np.sum(residual**2)) / len(clean), 2 * gradient.ravel() / len(clean)


def train() -> Array:
    """Return the parameters of a network that denoises the eight points of `ring-8`: rows w_1, w_2, b and a.

    The denoiser is ``D(z) = sum_j a_j w_j tanh(w_j.z + b_j)``, and its score is ``(D(z) - z)/sigma^2``.
    """
    random = np.random.default_rng(SEED)
    clean = ring_8().means[random.integers(8, size=POINTS)]
    noised = clean + SIGMA * random.normal(size=clean.shape)
    start = random.normal(size=(4, UNITS)) * np.array([[1], [1], [1], [0.3 / UNITS**0.5]])
    options = {"maxiter": ITERATIONS, "maxfun": 10 * ITERATIONS}
    found = minimize(loss, start.ravel(), (noised, clean), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x).reshape(4, UNITS)


@njit
def network_score(x, out, parameters, variance):  # type: ignore[no-untyped-def]
    """Write the score of the network at x to out."""
    first, second = -x[0], -x[1]
    for j in range(parameters.shape[1]):
        weight = np.tanh(parameters[0, j] * x[0] + parameters[1, j] * x[1] + parameters[2, j]) * parameters[3, j]
        first += weight * parameters[0, j]
        second += weight * parameters[1, j]
    out[0] = first / variance
    out[1] = second / variance


def network(parameters: Array) -> uldnum.UserTarget:
    """Return a target with the score of the network and the moments, cdf and draws of `ring-8`.

    Studies of this target measure the bias with respect to `ring-8`.
    """
    ring = ring_8()
    return uldnum.UserTarget(
        network_score, 2, None, ring.draws, ring.mean, ring.standard_deviation, ring.moment, ring.cdf,
        "ring-8 by a network", (parameters, SIGMA**2),
    )  # fmt: skip


def log_density(parameters: Array, z: Array) -> Array:
    """Return the log density up to a constant whose gradient is the score of the network, (n, 2) -> (n,)."""
    w, b, a = np.split(parameters, [2, 3])
    return ((np.log(np.cosh(z @ w + b)) @ a.T)[:, 0] - np.sum(z**2, axis=1) / 2) / SIGMA**2


def own_bias(parameters: Array) -> tuple[list[float], float]:
    """Return the biases of the density of the network in `METRICS`, and the relative error of its score.

    Quadrature on `NODES` in both axes. The error is the root mean square under `ring-8`, relative to that of the score.
    """
    ring = ring_8()
    z = np.stack(np.meshgrid(NODES, NODES, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = [ring.log_density(z), log_density(parameters, z)]
    exact, learned = (np.exp(one - one.max()) / np.sum(np.exp(one - one.max())) for one in logs)
    change = (learned - exact).reshape(len(NODES), -1)
    marginals = [change.sum(axis=1), change.sum(axis=0)]
    spacing, square = NODES[1] - NODES[0], exact @ z**4 - (exact @ z**2) ** 2
    distance = [np.abs(np.cumsum(one)).sum() * spacing for one in marginals] / ring.standard_deviation
    second = [one @ NODES**2 for one in marginals] / np.sqrt(square)
    score = ring.score(z)
    error = exact @ np.sum((network(parameters).score(z) - score) ** 2, axis=1) / (exact @ np.sum(score**2, axis=1))
    return [float(np.mean(distance)), float(np.sqrt(np.mean(second**2)))], float(np.sqrt(error))


def with_network(parameters: Array) -> xr.Dataset:
    """Return the biases of the integrators with the score of `ring-8` and with that of the network."""
    common: dict[str, Any] = {"friction": RING_FRICTION, "burn_in": 1_000, "chains": 4096, "progress": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*diverged")  # the figure shows where a curve ends
        exact = uldnum.studies.frontier("ring-8", list(INTEGRATORS), H, nfe=NFE, **common).isel(friction=0)
        learned = uldnum.studies.bias(network(parameters), list(INTEGRATORS), H[::2], nfe=NETWORK_NFE, **common)
    biases, error = own_bias(parameters)
    data: dict[str, Any] = {
        f"{kind}_{part}": study[part].sel(metric=[*METRICS]).rename({"h": axis}).drop_vars("friction", errors="ignore")
        for kind, study, axis in (("exact", exact, "h"), ("network", learned, "network_h"))
        for part in ("bias", "error", "floor")
    }
    data |= {part: exact[part].drop_vars("friction") for part in ("cost", "cost_error")}
    data["own_bias"] = ("metric", biases)
    data["parameters"] = (("parameter", "unit"), parameters)
    return xr.Dataset(data).assign_attrs(score_error=error)


def crossing(data: xr.Dataset, metric: str) -> tuple[float, float, float, float]:
    """Return the step size at which the bias of an integrator reaches that of the network, and the cost, with errors.

    Bias and cost are interpolated as powers of h. All values are NaN if the bias is larger at the smallest step size.
    """
    one, h = data.sel(metric=metric), np.log(data.h.values)
    bias, own = np.log(one.exact_bias.values), float(np.log(one.own_bias))
    i = int(np.flatnonzero(bias > own)[0])
    if i == 0:
        return (np.nan,) * 4
    pair, slope = slice(i - 1, i + 1), (bias[i] - bias[i - 1]) / (h[i] - h[i - 1])
    at = h[i - 1] + (own - bias[i - 1]) / slope
    error = float((np.maximum(one.exact_error, one.exact_floor) / one.exact_bias)[pair].mean()) / slope
    price = np.log(one.cost.values)
    steep = (price[i] - price[i - 1]) / (h[i] - h[i - 1])
    cost = float(np.exp(price[i - 1] + steep * (at - h[i - 1])))
    cost_error = cost * np.hypot(float((one.cost_error / one.cost)[pair].mean()), steep * error)
    return float(np.exp(at)), float(np.exp(at)) * error, cost, float(cost_error)


# ------------------------------------------------------------------------------------------------- the page, the figure


def added_variance(data: xr.Dataset) -> xr.DataArray:
    """Return the variance that noise adds on N(0, 1), divided by tau^2/C, at all noise levels but 0.

    The standard deviation of x^2, which is the unit of the bias of the second moment, is sqrt(2).
    """
    variance = np.sqrt(2) * data.second_moment.sel(target="gaussian")
    return ((variance - variance.sel(tau=0)) * COST / data.tau**2).sel(tau=[*TAU[1:]])


def noisy_table(data: xr.Dataset) -> str:
    """Return the table of added variances and of distances on two modes."""
    shown = (0.0, 0.5, 1.0, 2.0)
    lines = [
        "| integrator | friction | variance added on N(0, 1) by tau = 1, times C | two modes: tau = 0 | "
        + " | ".join(f"{tau:g}" for tau in shown[1:]) + " |",
        "|---" * (3 + len(shown)) + "|",
    ]  # fmt: skip
    for name, kinetic in INTEGRATORS.items():
        for friction in FRICTIONS if kinetic else FRICTIONS[:1]:
            one = data.sel(integrator=name, friction=friction)
            distances = one.distance.sel(target="bimodal-1d", tau=list(shown)).values
            cells = [f"`{name}`", f"{friction:g}" if kinetic else "", f"{float(added_variance(one).sel(tau=1)):.3f}"]
            lines.append("| " + " | ".join(cells + [f"{value:.4f}" for value in distances]) + " |")
    return "\n".join(lines)


def crossings_table(data: xr.Dataset) -> str:
    """Return the table of the step sizes at which integrators are as biased as the network."""
    lines = [
        "| integrator | h, Wasserstein-1 | evaluations for an independent sample there | h, second moment |",
        "|---|---|---|---|",
    ]
    for name in INTEGRATORS:
        (h, error, cost, cost_error), second = (crossing(data.sel(integrator=name), metric) for metric in METRICS)
        cells = [f"{h:.2f} ± {error:.2f}", f"{cost:.0f} ± {cost_error:.0f}", f"{second[0]:.3f} ± {second[1]:.3f}"]
        cells = cells if np.isfinite(h) else [f"below {H[0]:g}", "", f"below {H[0]:g}"]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page() -> None:
    """Write the page from the stored data."""
    data = xr.load_dataset(DATA)
    modes = data.distance.sel(target="bimodal-1d", friction=1.0)
    ratio = modes.sel(integrator="ula") / modes.sel(integrator="BAOAB")
    added = added_variance(data).drop_sel(integrator="mild(0.5)").sel(friction=[1.0, 2.0])
    found = {name: crossing(data.sel(integrator=name), "wasserstein_1") for name in INTEGRATORS}
    ordered = sorted((h, name) for name, (h, *_) in found.items() if np.isfinite(h))
    cost_ratio = found["ula"][2] / found["BAOAB"][2]
    mild, learned = modes.sel(integrator="mild(0.5)"), data.sel(integrator="BAOAB", metric="wasserstein_1")
    sampled = learned.isel(network_h=0)
    numbers = {
        "deviation": float(abs(added - 1).max()),
        "low": float(added_variance(data).sel(friction=0.5, tau=1, integrator="BAOAB")),
        "cost": COST,
        "ratio_0": float(ratio.sel(tau=0)),
        "ratio_half": float(ratio.sel(tau=0.5)),
        "ratio_2": float(ratio.sel(tau=2)),
        "score_error": data.score_error,
        "steps": ", ".join(f"{h:.2f} with {name}" for h, name in ordered),
        "ring_friction": RING_FRICTION,
        "noisy": noisy_table(data),
        "mild_best": float(mild.min()),
        "mild_tau": float(mild.idxmin("tau")),
        "sigma": SIGMA,
        "units": UNITS,
        "points": POINTS,
        "iterations": ITERATIONS,
        "nodes": len(NODES),
        "own_distance": float(data.own_bias.sel(metric="wasserstein_1")),
        "own_second": float(data.own_bias.sel(metric="second_moment")),
        "crossings": crossings_table(data),
        "cost_ratio": cost_ratio,
        "cost_ratio_error": cost_ratio
        * float(np.linalg.norm([found[name][3] / found[name][2] for name in ("ula", "BAOAB")])),
        "small": float(sampled.network_h),
        "sampled": float(sampled.network_bias),
        "sampled_error": float(sampled.network_error),
        "nfe_exact": NFE,
        "nfe_network": NETWORK_NFE,
    }
    with atomic(PAGE) as file:
        file.write_text(TEXT.format(**numbers), encoding="utf-8")


@paper()
def draw() -> None:
    """Draw the stored data."""
    from matplotlib.figure import Figure

    data = xr.load_dataset(DATA)
    figure = Figure(figsize=(TWO_COLUMNS, 3), layout="constrained")
    left, middle, right = panels = figure.subplots(1, 3)
    for name in INTEGRATORS:
        noisy, plane = data.sel(integrator=name, friction=1.0), data.sel(integrator=name, metric="wasserstein_1")
        style: dict[str, Any] = {"color": look(name).colour, "marker": look(name).marker}
        for axes, target in ((left, "gaussian"), (middle, "bimodal-1d")):
            distance = noisy.distance.sel(target=target)
            line = "--" if name == "BAOAB" else "-"  # it nearly coincides with baoab-limit
            axes.plot(data.tau, distance.where(distance > 1e-6), label=name, linestyle=line, **style)
        error = np.maximum(plane.exact_error, plane.exact_floor)
        right.errorbar(data.h, plane.exact_bias, error, elinewidth=0.6, **style)
        hollow = style | {"markerfacecolor": "white", "linestyle": "", "zorder": 3}
        right.errorbar(data.network_h, plane.network_bias, plane.network_error, elinewidth=0.6, **hollow)
    dotted: dict[str, Any] = {"color": "0.3", "linestyle": ":", "linewidth": 1.0}
    tau = np.linspace(0.05, TAU[-1], 100)
    left.plot(tau, (np.sqrt(1 + tau**2 / COST) - 1) * np.sqrt(2 / np.pi), label="N(0, 1 + τ²/C)", **dotted)
    own = float(data.own_bias.sel(metric="wasserstein_1"))
    right.axhline(own, label="density of the network", **dotted | {"linestyle": "-."})
    for axes, title in ((left, "N(0, 1)"), (middle, "two modes")):
        axes.set(xlabel="standard deviation τ of the score error", title=f"{title}: exact, at cost C = {COST:g}")
        axes.set(yscale="log", ylim=(4e-4, 0.3))
    right.set(
        xscale="log", yscale="log", ylim=(4e-4, 0.3), xlabel="step size h", title="ring-8: exact score and network"
    )
    left.set_ylabel("bias: Wasserstein-1 distance\n(standard deviations)")
    right.set_xticks([0.25, 0.4, 0.6, 0.95], ["0.25", "0.4", "0.6", "0.95"], minor=False)
    right.minorticks_off()
    for axes in panels:
        axes.grid(alpha=0.25, linewidth=0.5)
    handles = [one for axes in (left, right) for one in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    save(figure, *FIGURES)


def main() -> None:
    """Compute the data, store them, write the page, and draw the figure."""
    data = xr.merge([with_noise(), with_network(train())], combine_attrs="no_conflicts")
    store(data.assign_attrs(uldnum=uldnum.__version__), DATA)
    write_page()
    draw()
