"""The commands ``uldnum mixing``, ``uldnum frontier`` and ``uldnum advise``: cost of an independent sample."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from uldnum.cli import options
from uldnum.cli.common import compute_study, print_json, write_study
from uldnum.studies.configuration import FrontierConfiguration, SamplingConfiguration

__all__ = ["advise", "frontier", "mixing"]

USUAL = {"target": "bimodal-1d", "integrators": "ULA,baoab-limit,BAOAB,OBABO,UBU,mild(0.5)"}


@options.with_options_of(SamplingConfiguration, **USUAL)
def mixing(
    given: dict[str, Any],
    scheduler: options.Scheduler = None,
    out: options.Out = Path("out"),
    as_json: options.AsJson = False,
) -> None:
    """Measure and plot the number of score evaluations per independent sample.

    The command writes OUT/mixing.nc (an xarray dataset) and OUT/mixing.png, a plot of the autocorrelation time against
    the step size. Points are sampled; lines are exact. Exact values are known for Gaussian targets and for all targets
    in one dimension.

    Example: uldnum mixing --target ring-8 --integrators ULA,BAOAB --friction 0.3,1,3
    """
    from uldnum.plotting import draw_mixing

    study = compute_study("mixing", given, scheduler, out)
    data, figure = write_study(study, out, "mixing", draw_mixing)
    print_costs(study, data, figure, as_json, f" (the slower of {' and '.join(study.observable.values)})")


@options.with_options_of(FrontierConfiguration, **USUAL)
def frontier(
    given: dict[str, Any],
    scheduler: options.Scheduler = None,
    out: options.Out = Path("out"),
    as_json: options.AsJson = False,
) -> None:
    """Measure bias and cost for a grid of step sizes and frictions, and plot the frontier.

    The command writes OUT/frontier.nc (an xarray dataset) and OUT/frontier.png. The frontier is the least cost at which
    an integrator reaches a bias. 'uldnum advise' selects a point of it.

    Example: uldnum frontier --target ring-8 --integrators ULA,BAOAB,OBABO --friction 0.3,1,3
    """
    from uldnum.plotting import draw_frontier

    study = compute_study("frontier", given, scheduler, out)
    data, figure = write_study(study, out, "frontier", draw_frontier)
    print_costs(study, data, figure, as_json, "; the bias is in the data and the figure")


@options.with_options_of(FrontierConfiguration, **USUAL)
def advise(
    given: dict[str, Any],
    max_bias: Annotated[
        float,
        typer.Option(help="Largest acceptable bias, in units of the metric, such as standard deviations of x^2."),
    ],
    metric: Annotated[str, typer.Option(help="Metric of the bias: a name in 'uldnum list'.")] = "second_moment",
    scheduler: options.Scheduler = None,
    out: options.Out = Path("out"),
    as_json: options.AsJson = False,
) -> None:
    """Recommend the integrator, friction and step size that reach a given bias at the least cost.

    The command computes the same study as 'uldnum frontier', reuses its stored points, and writes the same files. It
    prints the recommendation as text, or with --json as numbers.

    Example: uldnum advise --target ring-8 --max-bias 0.01
    """
    from dataclasses import asdict

    from uldnum import studies
    from uldnum._util.arguments import positive
    from uldnum.diagnostics.metrics import study_metric
    from uldnum.plotting import draw_frontier

    positive("max_bias", max_bias)
    study_metric(metric)
    study = compute_study("frontier", given, scheduler, out)
    data, figure = write_study(study, out, "frontier", partial(draw_frontier, metric=metric))
    advice = studies.advise(study, max_bias, metric=metric)
    if as_json:
        typer.echo(json.dumps({"data": str(data), "figure": str(figure), **asdict(advice)}))
    else:
        typer.echo(f"{advice.text}\n\ndata:   {data}\nfigure: {figure}")


def print_costs(study: Any, data: Path, figure: Path, as_json: bool, remark: str) -> None:
    """Print one table of costs for each friction, or the whole study as JSON."""
    from uldnum.diagnostics.metrics import COST
    from uldnum.studies.common import RESOLVED

    if as_json:
        print_json(study, data, figure)
        return
    typer.echo(f"{COST.label.capitalize()} ± their standard error{remark}.")
    typer.echo(
        f"Where chains were shorter than {RESOLVED} autocorrelation times, the exact value is shown if it is known, "
        "and otherwise a lower bound, '> N'."
    )
    names = [str(name) for name in study.integrator.values]
    for friction in study.friction.values:
        typer.echo(f"\nfriction {friction:.4g}\n{'h':>8}" + "".join(f"{name:>17}" for name in names))
        for h in study.h.values:
            at = {"friction": friction, "h": h}
            parts = ("cost", "cost_error", "cost_resolved", "exact_cost", "diverged", "unstable")
            cells = zip(*(study[part].sel(at).values for part in parts), strict=True)
            typer.echo(f"{h:8.4g}" + "".join(f"{cell(*numbers):>17}" for numbers in cells))
    typer.echo(f"\ndata:   {data}\nfigure: {figure}")


def cell(value: float, error: float, resolved: bool, exact: float, diverged: int, unstable: bool) -> str:
    """Return the text of one cell: a cost and its standard error, or an exact cost, or a lower bound."""
    if diverged or unstable:
        return "diverged" if diverged else "unstable"
    if np.isnan(value):
        return "not known"
    if resolved:
        return f"{value:.3g} ± {error:.2g}"
    return f"> {value:.3g}" if np.isnan(exact) else f"{exact:.3g} (exact)"
