"""The command line: uldnum list, doctor, bias, sample."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from uldnum.extras import EXTRAS, MissingExtraError, installed, require
from uldnum.integrators import integrator as find_integrator
from uldnum.integrators import integrators as catalogue
from uldnum.integrators import positive, step_size
from uldnum.typing import Array

__all__ = ["main"]

# Chains that a strip shows, and the most states of each.
ROWS, COLUMNS = 6, 10

# Step sizes of a bias study.
STEPS = "0.05:1.5:12"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Langevin integrators for sampling, measured against exact answers. "
    "Start with 'uldnum list', then 'uldnum bias'.",
)

Seed = Annotated[int, typer.Option(help="64-bit key of all random numbers.")]


@app.command("list")
def list_() -> None:
    """List integrators, targets, networks and backends: one line each, with its source."""
    from uldnum.backends import BACKENDS
    from uldnum.networks import NETWORKS
    from uldnum.targets import PRESETS

    def order(value: float | None) -> str:
        return "?" if value is None else f"{value:g}"

    lines = {entry.signature: f"({', '.join(map(order, entry.order))})  {entry.source}" for entry in catalogue()}
    lines["any word"] = "        over A, B, O or over B, U is an integrator too, e.g. ABAOABA"
    show("Integrators (orders in h: weak, stationary)", lines)
    show("Targets", {name: preset.source for name, preset in PRESETS.items()})
    show("Networks", {name: f"{card.source}; licence: {card.licence}" for name, card in NETWORKS.items()})
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
    show(
        "\nBase", {name: installed(name) for name in ("numpy", "numba", "scipy", "xarray", "netCDF4", "typer", "tqdm")}
    )
    show("Backends", {"array": "works", "numba": check_numba(), "cuda": check_cuda()})
    extras = {}
    for extra, (purpose, distributions) in EXTRAS.items():
        missing = [name for name in distributions if installed(name) == "missing"]
        state = f"missing {', '.join(missing)}; run: pip install 'uldnum[{extra}]'" if missing else "installed"
        extras[extra] = f"{purpose}: {state}"
    show("Extras", extras)
    if importlib.util.find_spec("onnxruntime") is not None:
        runtime = require("onnxruntime", "onnx")
        show("ONNX Runtime", {runtime.__version__: ", ".join(runtime.get_available_providers())})


def check_numba() -> str:
    """Compile and run a small function, and say how it went."""
    try:
        import numba

        numba.njit(lambda value: value + 1)(1)
        return f"works, {numba.get_num_threads()} threads"
    except Exception as error:  # whatever is wrong is what the user wants to know
        return f"fails: {error}"


def check_cuda() -> str:
    """Run a few chains on the GPU, if there is one, and say what was found."""
    try:
        from uldnum import sample
        from uldnum.kernels.cuda.device import cache_folder, device

        found = device().describe()
        runs = [
            sample("ring-8", "BAOAB", h=0.2, steps=20, chains=8, backend=backend, progress=False)
            for backend in ("cuda", "numba")
        ]
        same = "the same bits as" if np.array_equal(runs[0].x, runs[1].x) else "NOT the same bits as"
        kernels = len(list(cache_folder().glob("*.ptx")))
        return f"works, {same} 'numba'; {found}; {kernels} compiled kernels in {cache_folder()}"
    except Exception as error:  # whatever is wrong is what the user wants to know
        return f"does not work: {error}"


@app.command()
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
    out: Annotated[Path, typer.Option(help="Folder for bias.nc and bias.png.")] = Path("out"),
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
    sweep |= {"friction": friction, "tolerance": tolerance}
    try:
        if exact_only:
            study = studies.exact_bias(**sweep)
        else:
            typer.echo("compiling, then sampling one integrator after the other", err=True)
            study = studies.bias(**sweep, nfe=nfe, burn_in=burn_in, chains=chains, seed=seed, backend=backend)
    except KeyboardInterrupt:
        interrupted()
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


@app.command()
def sample(
    network: Annotated[
        str, typer.Option(help="A network of 'uldnum list'; fetched on first use.")
    ] = "galaxygrad-hsc32",
    integrator: Annotated[
        str, typer.Option(help="A name or a splitting word; 'uldnum list' shows them.")
    ] = "baoab-limit",
    steps: Annotated[int, typer.Option(min=1, help="Time steps.")] = 200,
    chains: Annotated[int, typer.Option(min=1, help="Independent chains.")] = 16,
    sigma: Annotated[float | None, typer.Option(help="Noise level, 0 to 1. Default: the network's card.")] = None,
    h: Annotated[float | None, typer.Option(help="Step size in units of sigma. Default: the network's card.")] = None,
    delta: Annotated[float | None, typer.Option(help="The step size as delta = h^2/2, in units of sigma^2.")] = None,
    friction: Annotated[float, typer.Option(help="Friction, in units of 1/sigma.")] = 1.0,
    every: Annotated[int | None, typer.Option(min=1, help="Steps between stored states. Default: steps/10.")] = None,
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
    sigma = card.sigma if sigma is None else sigma
    step = card.h if h is None and delta is None else float(step_size(h, delta))
    positive("friction", friction)
    every = -(-steps // 10) if every is None else every
    if every > steps:
        raise ValueError(f"every: must be at most steps = {steps}, got {every}")
    level = networks.network(network).at(sigma)

    begun = time.perf_counter()
    run = sampling.sample(level, scheme, h=step, friction=friction, steps=steps, chains=chains, seed=seed, thin=every)
    seconds = time.perf_counter() - begun
    if not run.complete:
        interrupted()
    denoised = np.stack([level.denoise(x) for x in run.recorded])
    states: dict[str, Any] = {"trace": run.recorded, "denoised": denoised, "x": run.x}
    states |= {} if run.p is None else {"p": run.p}
    states |= {"network": network, "integrator": scheme.name, "sigma": sigma, "h": step, "friction": friction}
    states |= {"unit": card.data, "steps": steps, "every": every, "seed": seed, "uldnum": version("uldnum")}
    with atomic(out.with_suffix(".npz")) as file:
        np.savez_compressed(file, allow_pickle=False, **states)
    shown = np.unique(np.linspace(0, len(denoised) - 1, COLUMNS).round().astype(int))
    draw_strip(
        np.moveaxis(denoised[shown, :ROWS, 0], 0, 1),
        card.display,
        [f"step {every * (i + 1)}" for i in shown],
        f"{level.name}: denoised states along {min(chains, ROWS)} chains of {scheme.name}, h = {step:.3g} sigma",
        out,
    )
    typer.echo(f"{run.nfe} evaluations of {chains} images in {seconds:.1f} s")
    typer.echo(f"images: {out}\nstates: {out.with_suffix('.npz')}")


def interrupted() -> NoReturn:
    """End after Ctrl-C, as shells expect."""
    typer.secho("interrupted: nothing was written", err=True)
    raise typer.Exit(130)


def say(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line."""
    typer.secho(f"warning: {message}", err=True, fg="yellow")


def main() -> None:
    """Run the command line: what is wrong is said in one line, without a traceback."""
    warnings.showwarning = say
    try:
        app()
    except (ValueError, MissingExtraError, RuntimeError, OSError, MemoryError) as error:
        typer.secho(f"error: {error or 'out of memory; take fewer chains'}", err=True, fg="red")
        sys.exit(2)
