"""Comparison of sampled moments with the exact moments of each scheme, for thirteen integrators at three step sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

import uldnum
from uldnum._util.files import store
from uldnum.exact import transfer_operator
from uldnum.sampling.moments import standard_error

INTEGRATORS = [
    "ula", "baoab-limit", "noise-denoise(1)", "mild(0.5)", "BAOAB", "BAOA", "OBABO", "ABOBA", "OABAO", "UBU", "BUB",
    "euler-maruyama", "exponential-euler",
]  # fmt: skip
H = [0.2, 0.4, 0.8]
TARGET = "bimodal-1d"
# Tolerance of the exact answer. It is limited by the spectral gap of euler-maruyama near its stability limit, which
# converges last. Mean and second moment are accurate to far below the standard errors of 1e9 chain-steps.
TOLERANCE = 2e-4
DATA = Path(__file__).parent / "data" / "agreement.nc"


def sampled(name: str, chains: int, steps: int, seed: int) -> xr.Dataset:
    """Return sampled E[x] and E[x^2] of one integrator and their standard errors, at all step sizes."""
    target = uldnum.target(TARGET)
    run = uldnum.sample(target, name, h=H, steps=steps, burn_in=1000, chains=chains, seed=seed, progress=name)
    each = np.stack([run.moments.chain_mean, run.moments.chain_square], axis=-1)[..., 0, :]  # h, chains, moment
    dims = ("h", "moment")
    results = {"sampled": (dims, each.mean(axis=1)), "error": (dims, standard_error(each, axis=1))}
    return xr.Dataset(results, {"h": H, "moment": [1, 2]})


def exact(name: str) -> xr.DataArray:
    """Return E[x] and E[x^2] under the exact stationary distribution of the scheme, at all step sizes."""
    laws = [transfer_operator(name, uldnum.target(TARGET), h, tolerance=TOLERANCE) for h in H]
    values = [[law.expectation(np.asarray), law.expectation(np.square)] for law in laws]
    return xr.DataArray(values, {"h": H, "moment": [1, 2]}, ("h", "moment"))


def collected(parts: list[xr.Dataset], **attributes: int) -> xr.Dataset:
    """Return the results of all integrators as one dataset."""
    study = xr.concat(parts, xr.Variable("integrator", INTEGRATORS))
    return study.assign_attrs(target=TARGET, friction=1.0, uldnum=uldnum.__version__, **attributes)


def main() -> None:
    """Run 1e9 chain-steps for each integrator and step size (over an hour on one core), store and report them."""
    chains, steps = 10_000, 100_000
    parts = [sampled(name, chains, steps, seed).assign(exact=exact(name)) for seed, name in enumerate(INTEGRATORS)]
    DATA.parent.mkdir(exist_ok=True)
    store(collected(parts, chains=chains, steps=steps), DATA)
    report()


def report() -> None:
    """Print the largest deviation in the stored results, and the number of cases with a significant bias."""
    study = xr.load_dataset(DATA)
    gap = (study.sampled - study.exact) / study.error
    bias = np.abs(study.exact - xr.DataArray([0.6, 3.25], dims="moment")) / study.error
    seen = int((bias.sel(moment=2) >= 4).sum())
    print(f"{gap.size} comparisons; the largest gap is {float(np.abs(gap).max()):.2f} standard errors")
    print(f"the bias of E[x^2] is at least 4 standard errors in {seen} of {gap.size // 2} cases")
