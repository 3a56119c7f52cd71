"""uldnum mixing, frontier and advise: what a step costs, and which to take."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from uldnum.cli.bias import parse_steps, split_names
from uldnum.cli.common import Scheduler, Seed, interrupted
from uldnum.extras import require

__all__ = ["advise", "frontier", "mixing"]

# Integrators of a study.
USUAL = "ULA,baoab-limit,BAOAB,OBABO,UBU,mild(0.5)"

Target = Annotated[str, typer.Option(help="A target of 'uldnum list', or a TOML file.")]
Integrators = Annotated[
    str, typer.Option(help="Comma-separated names or splitting words; quote brackets: 'ULA,mild(0.5)'.")
]
StepSizes = Annotated[
    str | None,
    typer.Option(
        help="Step sizes: first:last:count (geometric), or a list.  [default: 12, from 0.1 to 1.6 of the target's "
        "narrowest standard deviations]"
    ),
]
Delta = Annotated[str | None, typer.Option(help="Step sizes as delta = h^2/2 instead.")]
Friction = Annotated[
    str | None,
    typer.Option(
        help="Frictions, as step sizes; overdamped schemes ignore them.  [default: 0.5, 1 and 2 over that deviation]"
    ),
]
Nfe = Annotated[int, typer.Option(min=1, help="Recorded score evaluations per chain, for every point.")]
BurnIn = Annotated[int, typer.Option(min=0, help="Score evaluations before them.")]
Chains = Annotated[int, typer.Option(min=2, help="Independent chains for each point.")]
Tolerance = Annotated[float, typer.Option(help="Accuracy of exact answers.")]
Backend = Annotated[
    str | None, typer.Option(help="Where to sample: numba, array, cuda or cuda-fast.  [default: numba if it can]")
]
Out = Annotated[
    Path, typer.Option(help="Folder for results. Its subfolder 'points' keeps every point: a stopped study goes on.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of text.")]


def mixing(
    target: Target = "bimodal-1d",
    integrators: Integrators = USUAL,
    h: StepSizes = None,
    delta: Delta = None,
    friction: Friction = None,
    nfe: Nfe = 5_000,
    burn_in: BurnIn = 1_000,
    chains: Chains = 1024,
    seed: Seed = 0,
    tolerance: Tolerance = 1e-4,
    backend: Backend = None,
    scheduler: Scheduler = None,
    out: Out = Path("out"),
    as_json: AsJson = False,
) -> None:
    """Measure how many score evaluations an independent sample costs, and draw it.

    Writes OUT/mixing.nc (an xarray dataset) and OUT/mixing.png: the autocorrelation time against the step size, points
    sampled, lines exact where that is known (Gaussians, and one dimension).

    Example: uldnum mixing --target ring-8 --integrators ULA,BAOAB --friction 0.3,1,3
    """
    from uldnum.plotting import draw_mixing

    study = computed("mixing", locals())
    data, figure = written(study, out, "mixing", draw_mixing)
    shown(study, study.time.max("observable"), study.time_error.max("observable"), data, figure, as_json,
          "Score evaluations for an independent sample (the slower of x and x^2)")  # fmt: skip


def frontier(
    target: Target = "bimodal-1d",
    integrators: Integrators = USUAL,
    h: StepSizes = None,
    delta: Delta = None,
    friction: Friction = None,
    nfe: Nfe = 5_000,
    burn_in: BurnIn = 1_000,
    chains: Chains = 4096,
    seed: Seed = 0,
    tolerance: Tolerance = 1e-4,
    backend: Backend = None,
    scheduler: Scheduler = None,
    out: Out = Path("out"),
    as_json: AsJson = False,
) -> None:
    """Measure bias against cost as step size and friction vary, and draw the frontier.

    Writes OUT/frontier.nc (an xarray dataset) and OUT/frontier.png. 'uldnum advise' picks a point of it.

    Example: uldnum frontier --target ring-8 --integrators ULA,BAOAB,OBABO --friction 0.3,1,3
    """
    from uldnum.plotting import draw_frontier

    study = computed("frontier", locals())
    data, figure = written(study, out, "frontier", draw_frontier)
    shown(study, study.cost, study.cost_error, data, figure, as_json,
          "Score evaluations for an independent sample; the bias is in the data and the figure")  # fmt: skip


def advise(
    max_bias: Annotated[
        float, typer.Option(help="Largest bias that is allowed, in standard deviations of what is averaged.")
    ],
    target: Target = "bimodal-1d",
    metric: Annotated[
        str, typer.Option(help="Bias of what: second_moment, mean, wasserstein_1 or kolmogorov.")
    ] = "second_moment",
    integrators: Integrators = USUAL,
    h: StepSizes = None,
    delta: Delta = None,
    friction: Friction = None,
    nfe: Nfe = 5_000,
    burn_in: BurnIn = 1_000,
    chains: Chains = 4096,
    seed: Seed = 0,
    tolerance: Tolerance = 1e-4,
    backend: Backend = None,
    scheduler: Scheduler = None,
    out: Out = Path("out"),
    as_json: AsJson = False,
) -> None:
    """Say which integrator, friction and step size reach a bias at the least cost.

    Computes what 'uldnum frontier' does, and shares its points. The answer is one sentence; --json gives its numbers.

    Example: uldnum advise --target ring-8 --max-bias 0.01
    """
    from dataclasses import asdict

    from uldnum import studies
    from uldnum.diagnostics.bias import METRICS
    from uldnum.integrators import positive
    from uldnum.names import unknown
    from uldnum.plotting import draw_frontier

    positive("max_bias", max_bias)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS, f"Known are {', '.join(METRICS)}")
    study = computed("frontier", locals())
    advice = studies.advise(study, max_bias, metric=metric)
    data, figure = written(study, out, "frontier", partial(draw_frontier, metric=metric))
    if as_json:
        typer.echo(json.dumps({"data": str(data), "figure": str(figure), **asdict(advice)}))
    else:
        typer.echo(f"{advice.text}\n\ndata:   {data}\nfigure: {figure}")


def computed(name: str, options: dict[str, Any]) -> Any:
    """Compute a study from the options of a command, keeping its points in a folder."""
    from uldnum import studies
    from uldnum.files import writable_folder

    require("matplotlib", "plot")
    folder = writable_folder(options["out"])
    typer.echo("compiling, then sampling one point after the other", err=True)
    steps = {part: options[part] and parse_steps(part, options[part]) for part in ("h", "delta", "friction")}
    passed = {part: options[part] for part in ("target", "nfe", "burn_in", "chains", "seed", "tolerance", "backend")}
    with studies.scheduler(options["scheduler"]) as executor:
        try:
            return getattr(studies, name)(
                integrators=split_names(options["integrators"]), **steps, **passed, store=folder / "points",
                executor=executor,
            )  # fmt: skip
        except KeyboardInterrupt:
            interrupted(f"the same command goes on with what {folder / 'points'} has")


def written(study: Any, folder: Path, name: str, draw: Any) -> tuple[Path, Path]:
    """Store and draw a study."""
    from uldnum.files import atomic

    data, figure = folder / f"{name}.nc", folder / f"{name}.png"
    with atomic(data) as file:
        study.to_netcdf(file)
    draw(data, figure)
    return data, figure


def shown(study: Any, values: Any, errors: Any, data: Path, figure: Path, as_json: bool, title: str) -> None:
    """Print times for people, one table a friction, or everything for scripts."""
    if as_json:
        frame = study.to_dataframe().reset_index()
        results = json.loads(frame.to_json(orient="records", double_precision=15))
        attributes = study.attrs | {"target_parameters": json.loads(study.attrs.get("target_parameters", "null"))}
        typer.echo(json.dumps({"data": str(data), "figure": str(figure), **attributes, "results": results}))
        return
    typer.echo(f"{title}, and the standard error")
    typer.echo("('> N': chains did not forget where they were; a lower bound):")
    resolved = study.resolved.all("observable")
    names = [str(name) for name in study.integrator.values]
    for friction in study.friction.values:
        typer.echo(f"\nfriction {friction:.4g}\n{'h':>8}" + "".join(f"{name:>17}" for name in names))
        for h in study.h.values:
            at = {"friction": friction, "h": h}
            cells = zip(values.sel(at).values, errors.sel(at).values, resolved.sel(at).values, strict=True)
            typer.echo(f"{h:8.4g}" + "".join(f"{cell(*numbers):>17}" for numbers in cells))
    typer.echo(f"\ndata:   {data}\nfigure: {figure}")


def cell(value: float, error: float, resolved: bool) -> str:
    """Return a time as text."""
    if np.isnan(value):
        return "diverged"
    return f"{value:.3g} ± {error:.1g}" if resolved else f"> {value:.3g}"
