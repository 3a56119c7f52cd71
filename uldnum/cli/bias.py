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
    from uldnum.diagnostics.metrics import METRICS

    sampled = "bias" in study
    first, *others = (METRICS[str(name)] for name in study.metric.values)
    typer.echo(
        f"{'Bias' if sampled else 'Exact bias'} of the {first.label}, its magnitude in {first.unit}"
        f"{', and the standard error' if sampled else ''}"
    )
    typer.echo(f"(in the data and the figure: {', '.join(metric.label for metric in others)}):\n")
    for line in tables(study.sel(metric=first.name), sampled):
        typer.echo(line)
    if sampled and not study.settled.all():
        typer.echo(
            "\n* chains started from exact draws, and the burn-in was shorter than the autocorrelation time: the bias "
            "is underestimated"
        )
    typer.echo(f"\ndata:   {data}\nfigure: {figure}")


def tables(one: Any, sampled: bool) -> Iterator[str]:
    """Yield the lines of the table of one metric, or of one table for each friction."""
    if "friction" not in one.dims:
        yield from table(one, sampled)
        return
    for i, friction in enumerate(one.friction.values):
        if i:
            yield ""
        yield f"friction {friction:.4g}"
        yield from table(one.sel(friction=friction), sampled)


def table(one: Any, sampled: bool) -> Iterator[str]:
    """Yield the lines of the table of one metric: one row for each step size, one column for each integrator."""
    yield f"{'h':>8}" + "".join(f"{name:>19}" for name in one.integrator.values)
    for step in one.h.values:
        cells = one.sel(h=step)
        if sampled:
            parts = ("bias", "error", "settled", "diverged", "unstable")
            texts = [cell(*numbers) for numbers in zip(*(cells[part].values for part in parts), strict=True)]
        else:
            texts = ["none" if np.isnan(value) else resolved(value, one.exact_to) for value in cells.exact.values]
        yield f"{step:8.4g}" + "".join(f"{text:>19}" for text in texts)


def cell(value: float, error: float, settled: bool, diverged: int, unstable: bool) -> str:
    """Return the text of one cell: a bias and its standard error."""
    if diverged or unstable:
        return "diverged" if diverged else "unstable"
    return f"{value:.2e} ± {error:.0e}{' ' if settled else '*'}"


def resolved(value: float, exact_to: float) -> str:
    """Return the text of an exact value, or of its upper bound where it is below its accuracy."""
    return f"{value:.2e}" if value >= exact_to else f"< {exact_to:.0e}"
