"""The command ``uldnum bias``: measure bias against step size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from uldnum.cli import options
from uldnum.cli.common import compute_study, print_json, write_study
from uldnum.studies.configuration import BiasConfiguration

__all__ = ["bias"]


@options.with_options_of(BiasConfiguration, target="bimodal-1d", integrators="ULA,BAOAB,OBABO,baoab-limit,mild(0.5)")
def bias(
    given: dict[str, Any],
    exact_only: Annotated[
        bool,
        typer.Option(
            "--exact-only",
            help="Compute only the exact bias, without sampling; the target must be Gaussian or one-dimensional.",
        ),
    ] = False,
    scheduler: options.Scheduler = None,
    out: options.Out = Path("out"),
    as_json: options.AsJson = False,
) -> None:
    """Measure and plot the bias of several integrators against the step size.

    The command writes OUT/bias.nc (an xarray dataset) and OUT/bias.png. Points in the figure are sampled; lines are
    exact. Exact values are known for Gaussian targets and for all targets in one dimension.

    Examples: uldnum bias --target gaussian --integrators ULA,UBU,BAOAB --h 0.1:1.8:10

    uldnum bias --target double-well --h 0.02:0.1:6 --exact-only --tolerance 1e-4

    uldnum bias --integrators BAOAB,OBABO --friction 0.5,1,2 --nfe 1e4
    """
    from uldnum.plotting import draw_bias

    if exact_only and given.get("exact") is False:
        raise ValueError("exact: --exact-only computes only exact values, so it cannot be combined with --no-exact")
    study = compute_study("exact_bias" if exact_only else "bias", given, scheduler, out)
    data, figure = write_study(study, out, "bias", draw_bias)
    if as_json:
        print_json(study.drop_vars("nfe", errors="ignore"), data, figure)
    else:
        print_table(study, data, figure)


def print_table(study: Any, data: Path, figure: Path) -> None:
    """Print the first metric of a study as a table."""
    from uldnum.diagnostics.jackknife import SEEN
    from uldnum.diagnostics.metrics import METRICS
    from uldnum.studies.common import place_of

    sampled = "bias" in study
    first, *others = (METRICS[str(name)] for name in study.metric.values)
    one = study.sel(metric=first.name)
    what = f"{'Bias' if sampled else 'Exact bias'} of the {first.label}"
    friction = ", ".join(f"{value:.4g}" for value in np.atleast_1d(study.friction))
    typer.echo(f"{what} on {place_of(study)}, in {first.unit}; friction {friction}/time.")
    if study.attrs.get("reference"):
        typer.echo(f"Measured against {study.reference}.")
    accuracy = f", to about {study.exact_to:.0e}" if study.exact_to else ""
    exact = (
        f"exact: the bias of the scheme with the sign of its mean over axes{accuracy}; - if it is not known, < if only "
        "a bound is known."
    )
    if sampled:
        typer.echo(
            f"sampled: the magnitude of the bias and its standard error.\n{exact}\n"
            f"In a terminal, sampled values below {SEEN:g} noise floors are grey. The noise floor is the value of an "
            "unbiased run.\n"
        )
    else:
        typer.echo(f"{exact}\n")
    for line in tables(one, sampled):
        typer.echo(line)
    typer.echo(f"\nalso in the data and the figure: {', '.join(metric.label for metric in others)}")
    typer.echo(f"data:   {data}\nfigure: {figure}")


# Widths of the columns of step sizes, sampled values and exact values.
STEP, SAMPLED, EXACT = 9, 18, 11


def tables(one: Any, sampled: bool) -> Iterator[str]:
    """Yield the lines of the table of one metric with its remarks, or of one table for each friction."""
    if "friction" in one.dims:
        for i, friction in enumerate(one.friction.values):
            yield "\n" * (i > 0) + f"friction {friction:.4g}"
            yield from tables(one.sel(friction=friction), sampled)
        return
    yield from table(one, sampled)
    for note in notes(one, sampled):
        yield f"\n{note}"


def table(one: Any, sampled: bool) -> Iterator[str]:
    """Yield the lines of the table of one metric: one row for each step size, one column for each integrator."""
    width, signs = SAMPLED * sampled + EXACT, mean_signed(one)
    yield f"{'':{STEP}}" + "".join(f"{name:>{width}}" for name in one.integrator.values)
    yield f"{'h (time)':>{STEP}}" + (f"{'sampled ':>{SAMPLED}}" * sampled + f"{'exact':>{EXACT}}") * one.integrator.size
    for step in one.h.values:
        line = f"{step:{STEP}.4g}"
        for name in one.integrator.values:
            at, sign = (part.sel(h=step, integrator=name) for part in (one, signs))
            line += cell(at) if sampled else ""
            line += f"{signed(float(at.exact), float(sign), one.exact_to):>{EXACT}}"
        yield line


def cell(at: Any) -> str:
    """Return the text of a sampled bias and its standard error, grey if it is not resolved."""
    if at.diverged or at.unstable:
        return f"{'diverged' if at.diverged else 'unstable':>{SAMPLED}}"
    text = f"{float(at.bias):.1e} ± {float(at.error):.0e}{' ' if at.settled else '*'}"
    return f"{text:>{SAMPLED}}" if at.resolved else typer.style(f"{text:>{SAMPLED}}", fg="bright_black")


def mean_signed(one: Any) -> Any:
    """Return the exact bias of a metric with its sign, as the mean over axes; NaN for distances."""
    return one.exact_signed.reindex(moment=[one.metric.item()]).isel(moment=0, drop=True).mean("axis")


def signed(value: float, with_sign: float, exact_to: float) -> str:
    """Return the text of an exact value with its sign, or ``< exact_to`` if it is below the accuracy ``exact_to``."""
    if np.isnan(value):
        return "-"
    if value < exact_to:
        return f"< {exact_to:.0e}"
    if value == 0:  # on a Gaussian, below the rounding error of the reference value
        return "0"
    return f"{value:.2e}" if np.isnan(with_sign) else f"{np.copysign(value, with_sign):+.2e}"


def notes(one: Any, sampled: bool) -> Iterator[str]:
    """Yield the remarks on a table: biases that change sign, and burn-ins that were too short."""
    signs = mean_signed(one)
    for name in one.integrator.values:
        values = signs.sel(integrator=name).dropna("h").sortby("h")
        values = values[np.abs(values.values) > max(one.exact_to, 1e-12)]
        for i in np.flatnonzero(np.diff(np.sign(values.values))):
            low, high = values.h.values[i : i + 2]
            yield (
                f"{name}: the bias changes sign between h = {low:.4g} and {high:.4g}; near there it is small only "
                "because errors cancel, and the distances between the distributions do not vanish"
            )
    if sampled and not one.settled.all():
        yield (
            "* chains started from exact draws, and the burn-in was shorter than the autocorrelation time: the bias is "
            "underestimated"
        )
