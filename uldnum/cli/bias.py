"""uldnum bias: a study of bias against step size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from uldnum.cli.common import Scheduler, Seed, interrupted
from uldnum.extras import require
from uldnum.integrators import positive
from uldnum.typing import Array

__all__ = ["bias"]

# Step sizes of a bias study.
STEPS = "0.05:1.5:12"


def bias(
    target: Annotated[str, typer.Option(help="A target of 'uldnum list', or a TOML file.")] = "bimodal-1d",
    integrators: Annotated[
        str, typer.Option(help="Comma-separated names or splitting words; quote brackets: 'ULA,mild(0.5)'.")
    ] = "ULA,BAOAB,OBABO,baoab-limit,mild(0.5)",
    h: Annotated[
        str | None, typer.Option(help=f"Step sizes: first:last:count (geometric), or a list.  [default: {STEPS}]")
    ] = None,
    delta: Annotated[str | None, typer.Option(help="Step sizes as delta = h^2/2 instead.")] = None,
    friction: Annotated[float, typer.Option(help="Friction gamma; overdamped schemes ignore it.")] = 1.0,
    nfe: Annotated[
        int, typer.Option(min=1, help="Recorded score evaluations per chain, for every integrator.")
    ] = 5_000,
    burn_in: Annotated[int, typer.Option(min=0, help="Score evaluations before them.")] = 1_000,
    chains: Annotated[int, typer.Option(min=2, help="Independent chains for each integrator and step size.")] = 1024,
    seed: Seed = 0,
    exact_only: Annotated[
        bool,
        typer.Option("--exact-only", help="Compute the exact bias and sample nothing (Gaussians, and targets in 1-D)."),
    ] = False,
    tolerance: Annotated[float, typer.Option(help="Accuracy of the exact bias.")] = 1e-5,
    backend: Annotated[
        str | None, typer.Option(help="Where to sample: numba, array, cuda or cuda-fast.  [default: numba if it can]")
    ] = None,
    scheduler: Scheduler = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for bias.nc and bias.png. Its subfolder 'points' keeps every point: a stopped study goes on."
        ),
    ] = Path("out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")] = False,
) -> None:
    """Measure bias against step size for several integrators, and draw it.

    Writes OUT/bias.nc (an xarray dataset) and OUT/bias.png. Points are sampled; lines are exact, where the exact answer
    is known: on Gaussians, and on any target in one dimension.

    Examples: uldnum bias --target gaussian --integrators ULA,UBU,BAOAB --h 0.1:1.8:10

    uldnum bias --target double-well --h 0.02:0.1:6 --exact-only
    """
    from uldnum import studies
    from uldnum.files import atomic, writable_folder
    from uldnum.plotting import draw_bias

    require("matplotlib", "plot")
    folder = writable_folder(out)
    if h is None and delta is None:
        h = STEPS
    steps, deltas = (text and parse_steps(name, text) for name, text in (("h", h), ("delta", delta)))
    sweep: dict[str, Any] = {"target": target, "integrators": split_names(integrators), "h": steps, "delta": deltas}
    sweep |= {"friction": friction, "tolerance": tolerance, "store": folder / "points"}
    with studies.scheduler(scheduler) as executor:
        try:
            if exact_only:
                study = studies.exact_bias(**sweep, executor=executor)
            else:
                typer.echo("compiling, then sampling one point after the other", err=True)
                sweep |= {"nfe": nfe, "burn_in": burn_in, "chains": chains, "seed": seed, "backend": backend}
                study = studies.bias(**sweep, executor=executor)
        except KeyboardInterrupt:
            interrupted(f"the same command goes on with what {folder / 'points'} has")
    data, figure = folder / "bias.nc", folder / "bias.png"
    with atomic(data) as file:
        study.to_netcdf(file)
    report_bias(study, data, figure, as_json)
    draw_bias(data, figure)


def report_bias(study: Any, data: Path, figure: Path, as_json: bool) -> None:
    """Print a study for people or for scripts."""
    if as_json:
        frame = study.drop_vars("nfe", errors="ignore").to_dataframe().reset_index()
        results = json.loads(frame.to_json(orient="records", double_precision=15))
        attributes = study.attrs | {"target_parameters": json.loads(study.attrs.get("target_parameters", "null"))}
        typer.echo(json.dumps({"data": str(data), "figure": str(figure), **attributes, "results": results}))
        return
    sampled = "bias" in study
    typer.echo(
        f"{'Bias' if sampled else 'Exact bias'} of the second moment, its magnitude in standard deviations of x^2"
        f"{', and the standard error' if sampled else ''}"
    )
    typer.echo("(mean, Wasserstein-1 and Kolmogorov distance are in the data and the figure):\n")
    names = [str(name) for name in study.integrator.values]
    typer.echo(f"{'h':>8}" + "".join(f"{name:>17}" for name in names))
    for step in study.h.values:
        cells = study.sel(h=step, metric="second_moment")
        if sampled:
            columns = zip(cells.bias.values, cells.error.values, cells.diverged.values, strict=True)
            texts = ["diverged" if lost else f"{value:.2e} ± {error:.0e}" for value, error, lost in columns]
        else:
            texts = ["none" if np.isnan(value) else f"{value:.2e}" for value in cells.exact.values]
        typer.echo(f"{step:8.4g}" + "".join(f"{text:>17}" for text in texts))
    typer.echo(f"\ndata:   {data}\nfigure: {figure}")


def split_names(text: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def parse_steps(name: str, text: str) -> Array:
    """Read step sizes: first:last:count, geometrically spaced, or a comma-separated list."""
    try:
        if ":" not in text:
            return positive(name, [float(part) for part in text.split(",")])
        first, last, count = text.split(":")
        ends, number = positive(name, [float(first), float(last)]), int(count)
    except ValueError as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: {text!r} is neither first:last:count, such as {STEPS}, nor a list") from None
    if number < 1:
        raise ValueError(f"{name}: {text!r} asks for {number} step sizes")
    return np.geomspace(ends[0], ends[1], number)
