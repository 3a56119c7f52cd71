"""The command line: uldnum list, doctor, bias, sample."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from uldnum.extras import EXTRAS, MissingExtraError, require
from uldnum.integrators import integrator as find_integrator
from uldnum.integrators import integrators as catalogue
from uldnum.integrators import positive
from uldnum.typing import Array

__all__ = ["main"]

# Chains that a strip shows.
ROWS = 6

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Langevin integrators for sampling, measured against exact answers. "
    "Start with 'uldnum list', then 'uldnum bias'.",
)

Names = Annotated[str, typer.Option(help="Comma-separated names or splitting words; 'uldnum list' shows them.")]
Friction = Annotated[float, typer.Option(help="Friction gamma; in units of 1/sigma for a network.")]
Seed = Annotated[int, typer.Option(help="64-bit key of all random numbers.")]


@app.command("list")
def list_() -> None:
    """List integrators, targets, networks and backends: one line each, with its source."""
    from uldnum.networks import NETWORKS
    from uldnum.sampling import BACKENDS
    from uldnum.targets import PRESETS

    def order(value: float | None) -> str:
        return "?" if value is None else f"{value:g}"

    lines = {entry.signature: f"({', '.join(map(order, entry.order))})  {entry.source}" for entry in catalogue()}
    lines["any word"] = "        over A, B, O or over B, U is an integrator too, e.g. ABAOABA"
    show("Integrators (orders in h: weak, stationary)", lines)
    show("Targets", {name: preset.source for name, preset in PRESETS.items()})
    show("Networks", {name: card.source for name, card in NETWORKS.items()})
    show("Backends", {name: purpose for name, (_, purpose) in BACKENDS.items()})


def show(title: str, lines: dict[str, str]) -> None:
    """Print a titled table of two columns."""
    typer.secho(title, bold=True)
    width = max(map(len, lines))
    for name, text in lines.items():
        typer.echo(f"  {name:<{width}}  {text}")
    typer.echo()


@app.command()
def doctor() -> None:
    """Say what is installed, which backends and ONNX providers work, and how to get the rest."""
    typer.echo(f"uldnum {version('uldnum')}, Python {platform.python_version()}, {platform.platform()}")
    show("\nBase", {name: installed(name) for name in ("numpy", "numba", "xarray", "netCDF4", "typer", "tqdm")})
    show("Backends", {"array": "works", "numba": check_numba()})
    extras = {}
    for extra, (purpose, distributions) in EXTRAS.items():
        missing = [name for name in distributions if installed(name) == "missing"]
        state = f"missing {', '.join(missing)}; run: pip install 'uldnum[{extra}]'" if missing else "installed"
        extras[extra] = f"{purpose}: {state}"
    show("Extras", extras)
    if importlib.util.find_spec("onnxruntime") is not None:
        runtime = require("onnxruntime", "onnx")
        show("ONNX Runtime", {runtime.__version__: ", ".join(runtime.get_available_providers())})


def installed(name: str) -> str:
    """Return the version of a distribution, or say that it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def check_numba() -> str:
    """Compile and run a small function, and say how it went."""
    try:
        import numba

        from uldnum.kernels.cpu import jit

        assert jit(lambda value: value + 1)(1) == 2
        return f"works, {numba.get_num_threads()} threads"
    except Exception as error:  # whatever is wrong is what the user wants to know
        return f"fails: {error}"


@app.command()
def bias(
    target: Annotated[str, typer.Option(help="A target of 'uldnum list'.")] = "bimodal-1d",
    integrators: Names = "ULA,BAOAB,OBABO,baoab-limit,mild(0.5)",
    h: Annotated[str, typer.Option(help="Step sizes: first:last:count (geometric), or a comma-separated list.")] = (
        "0.05:1.5:12"
    ),
    friction: Friction = 1.0,
    nfe: Annotated[int, typer.Option(help="Recorded score evaluations per chain, equal for all integrators.")] = 5_000,
    burn_in: Annotated[int, typer.Option(help="Score evaluations before them.")] = 1_000,
    chains: Annotated[int, typer.Option(help="Independent chains for each integrator and step size.")] = 1024,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for bias.nc and bias.png.")] = Path("out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")] = False,
) -> None:
    """Measure bias against step size for several integrators, and draw it.

    Writes OUT/bias.nc (an xarray dataset) and OUT/bias.png. Points are sampled; lines are exact, where the exact answer
    is known (target 'gaussian').

    Example: uldnum bias --target gaussian --integrators ULA,UBU,BAOAB --h 0.1:1.8:10
    """
    from uldnum import studies, targets
    from uldnum.files import atomic, writable_folder
    from uldnum.plotting import draw_bias

    require("matplotlib", "plot")
    folder = writable_folder(out)
    density = targets.target(target)
    schemes = [find_integrator(name) for name in split_names(integrators)]
    steps = parse_steps(h)
    typer.echo(
        f"{density.name}: {len(schemes)} integrators x {len(steps)} step sizes x {chains} chains x {nfe + burn_in} "
        "score evaluations (the first seconds go into compiling)",
        err=True,
    )
    study = studies.bias(density, schemes, steps, friction=friction, nfe=nfe, burn_in=burn_in, chains=chains, seed=seed)
    data, figure = folder / "bias.nc", folder / "bias.png"
    with atomic(data) as file:
        study.to_netcdf(file)
    draw_bias(data, figure)
    report_bias(study, data, figure, as_json)


def report_bias(study: Any, data: Path, figure: Path, as_json: bool) -> None:
    """Print a study for people or for scripts."""
    if as_json:
        frame = study[["bias", "error", "floor", "exact", "diverged"]].to_dataframe().reset_index()
        results = json.loads(frame.to_json(orient="records", double_precision=15))
        typer.echo(json.dumps({"data": str(data), "figure": str(figure), **study.attrs, "results": results}))
        return
    typer.echo("bias of the second moment (standard deviations), with its standard error:")
    names = [str(name) for name in study.integrator.values]
    typer.echo(f"{'h':>8}" + "".join(f"{name:>22}" for name in names))
    for step in study.h.values:
        cells = study.sel(h=step, metric="second_moment")
        columns = zip(cells.bias.values, cells.error.values, strict=True)
        typer.echo(f"{step:8.4f}" + "".join(f"{value:>12.5f} +- {error:<6.5f}" for value, error in columns))
    typer.echo(f"\ndata:   {data}\nfigure: {figure}")


def split_names(text: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def parse_steps(text: str) -> Array:
    """Read step sizes: first:last:count, geometrically spaced, or a comma-separated list."""
    try:
        if ":" not in text:
            steps = [float(part) for part in text.split(",")]
        else:
            first, last, count = text.split(":")
            steps = list(np.geomspace(float(first), float(last), int(count)))
    except ValueError:
        raise ValueError(f"h: {text!r} is neither first:last:count, such as 0.05:1.5:12, nor a list") from None
    return positive("h", steps)


@app.command()
def sample(
    network: Annotated[
        str, typer.Option(help="A network of 'uldnum list'; fetched on first use.")
    ] = "galaxygrad-hsc32",
    integrator: Annotated[
        str, typer.Option(help="A name or a splitting word; 'uldnum list' shows them.")
    ] = "baoab-limit",
    steps: Annotated[int, typer.Option(help="Time steps.")] = 200,
    chains: Annotated[int, typer.Option(help="Independent chains.")] = 16,
    sigma: Annotated[float | None, typer.Option(help="Noise level, 0 to 1. Default: the network's card.")] = None,
    h: Annotated[float | None, typer.Option(help="Step size in units of sigma. Default: the network's card.")] = None,
    friction: Friction = 1.0,
    every: Annotated[int | None, typer.Option(help="Steps between images of the strip. Default: ten images.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Image to write; the states go beside it, as .npz.")] = Path("chain.png"),
) -> None:
    """Run chains on an image network at one noise level, and draw denoised images along them.

    Chains start from pure noise. OUT shows some of them, one a row; the .npz beside it holds the states of all
    ('trace'), their denoised images ('denoised') and every parameter.

    Example: uldnum sample --network galaxygrad-hsc32 --integrator BAOAB --h 1 --steps 400 --out chain.png
    """
    from uldnum import networks, sampling
    from uldnum.files import atomic, writable_folder
    from uldnum.plotting import check_suffix, draw_strip

    check_suffix(out)
    writable_folder(out.parent)
    card, scheme = networks.card(network), find_integrator(integrator)
    sigma, h = (card.sigma if sigma is None else sigma), (card.h if h is None else h)
    every = max(1, steps // 10) if every is None else every
    if not 1 <= every <= steps:
        raise ValueError(f"every: must be at least 1 and at most steps = {steps}, got {every}")
    level = networks.network(network).at(sigma)

    begun = time.perf_counter()
    run = sampling.sample(level, scheme, h=h, friction=friction, steps=steps, chains=chains, seed=seed, thin=every)
    seconds = time.perf_counter() - begun
    denoised = np.stack([level.denoise(x) for x in run.recorded])
    states: dict[str, Any] = {"trace": run.recorded, "denoised": denoised, "x": run.x}
    states |= {} if run.p is None else {"p": run.p}
    states |= {"network": network, "integrator": scheme.name, "sigma": sigma, "h": h, "friction": friction}
    states |= {"steps": steps, "every": every, "seed": seed, "uldnum": version("uldnum")}
    with atomic(out.with_suffix(".npz")) as file:
        np.savez_compressed(file, allow_pickle=False, **states)
    draw_strip(
        np.moveaxis(denoised[:, :ROWS, 0], 0, 1),
        card.display,
        [f"step {every * (i + 1)}" for i in range(len(denoised))],
        f"{level.name}: denoised states along {min(chains, ROWS)} chains of {scheme.name}, h = {h:.3g} sigma",
        out,
    )
    typer.echo(f"{run.nfe} evaluations of {chains} images in {seconds:.1f} s")
    typer.echo(f"images: {out}\nstates: {out.with_suffix('.npz')}")


def main() -> None:
    """Run the command line: what is wrong is said in one line, without a traceback."""
    try:
        app()
    except (ValueError, MissingExtraError, RuntimeError) as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(2)
