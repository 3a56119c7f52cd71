"""uldnum anneal: chains through noise levels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from uldnum.cli.common import interrupted, keep_stopped, saved, still_there
from uldnum.cli.options import Seed

__all__ = ["anneal"]


def anneal(
    context: typer.Context,
    data: Annotated[
        str, typer.Option("--data", help="A mixture or a network of 'uldnum list', or its TOML or ONNX file.")
    ] = "mnist",
    method: Annotated[
        str, typer.Option(help="An integrator, a predictor, or a plan of the literature; see 'uldnum list'.")
    ] = "heun",
    levels: Annotated[
        str,
        typer.Option(
            help="geometric:FIRST:LAST:COUNT, karras:..., linear:COUNT, scaled-linear:COUNT, cosine:COUNT, "
            "vp-sde:COUNT, or own:COUNT of a network."
        ),
    ] = "karras:20:0.02:20",
    steps: Annotated[int, typer.Option(min=1, help="Steps of an integrator at each level.")] = 1,
    h: Annotated[float | None, typer.Option(help="Its step size, in units of the level's sigma.")] = None,
    eps: Annotated[float | None, typer.Option(help="h^2/2 at the last level instead, absolute.")] = None,
    snr: Annotated[float | None, typer.Option(help="Or a step that follows the score: signal to noise.")] = None,
    friction: Annotated[float, typer.Option(help="Friction, in units of 1/sigma.")] = 1.0,
    predictor: Annotated[str | None, typer.Option(help="Goes from level to level, after the integrator.")] = None,
    momentum: Annotated[str, typer.Option(help="From level to level: kept, rescaled or refreshed.")] = "kept",
    boundary: Annotated[str, typer.Option(help="Scores where levels meet: own, or shared.")] = "own",
    denoise: Annotated[bool, typer.Option(help="End with the mean of the data given the state.")] = True,
    chains: Annotated[int, typer.Option(min=1, help="Independent chains.")] = 64,
    seed: Seed = 0,
    x0: Annotated[
        str | None, typer.Option(help="Start: target, normal or uniform. Default: the plan's.", show_default=False)
    ] = None,
    backend: Annotated[str | None, typer.Option(help="numba, array, cuda or cuda-fast. Default: what can.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT/anneal.nc.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("out"),
) -> None:
    """Run chains through noise levels, from noise to data.

    Writes OUT/anneal.nc, and for a network OUT/anneal.png with the last states. On a mixture the distance to exact
    samples is printed. After Ctrl-C, the same command with --resume goes on.

    Examples: uldnum anneal

    uldnum anneal --method baoab-limit --h 1 --levels geometric:20:0.02:50

    uldnum anneal --data gmm-40 --method ula --h 0.5 --steps 2 --predictor ddim --levels geometric:50:0.1:100
    """
    import uldnum
    from uldnum._util.extras import require
    from uldnum._util.files import check_store, writable_folder
    from uldnum.plans.presets import PRESETS
    from uldnum.plotting.pictures import check_look
    from uldnum.sampling.lookup import find_data

    stored = check_store(writable_folder(out) / "anneal.nc")
    keep_stopped(stored, resume)
    device = "cuda" if backend in ("cuda", "cuda-fast") else "cpu"
    law = find_data(data, device)
    images = len(law.shape) > 1
    if images:  # before anything is computed
        require("matplotlib", "plot")
        check_look(law.card)
    given: dict[str, Any] = {"steps": steps, "h": h, "eps": eps, "snr": snr, "friction": friction}
    given |= {"predictor": predictor, "momentum": momentum, "boundary": boundary, "denoise": denoise}
    sources = {name: context.get_parameter_source(name) for name in ("levels", *given)}
    said = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
    if method.lower() not in PRESETS:
        name, _, count = levels.partition(":")
        if name == "own" and not (count.isdigit() and law.levels is not None):
            raise ValueError(f"levels: own:COUNT are those of a network that has a schedule, got {levels!r}")
        chosen = uldnum.plan(method, law.levels(int(count)) if name == "own" else uldnum.levels.parse(levels), **given)
    elif said:
        raise ValueError(f"{said[0]}: {method!r} has its own levels, steps and sizes; leave out --{said[0]}")
    else:
        chosen = uldnum.preset(method)
    begun = time.perf_counter()
    run = uldnum.anneal(
        law, chosen, chains=chains, seed=seed, x0=x0, backend=backend,
        resume=stored if resume else None, progress=f"{chosen.name} on {law.name}",
    )  # fmt: skip
    saved(run.to_xarray, stored)
    with still_there(stored):
        typer.echo(f"{chosen.name}: {run.nfe} evaluations of {chains} chains in {time.perf_counter() - begun:.2f} s")
        if not run.complete:
            interrupted(f"{run.recorded_steps} of {run.steps} steps are in {stored}; go on with --resume")
        if images:
            show(law, chosen, run.x[:64], out / "anneal.png")
        elif chains > 1 and not run.diverged:
            compare(law, run.x, seed)
        typer.echo(f"states: {stored}")


def show(net: Any, chosen: Any, x: Any, path: Path) -> None:
    """Draw the last states of some chains."""
    from uldnum.plotting.pictures import coloured, draw_images

    draw_images(coloured(net.decode(x), net.card), [], f"{net.name}: {len(x)} chains of {chosen.name}", path)
    typer.echo(f"images: {path}")


def compare(mixture: Any, x: Any, seed: int) -> None:
    """Print the distance to the law, and how far as many exact samples are."""
    from uldnum.diagnostics.metrics import METRICS

    draws = mixture.sample(len(x), (seed + 1) % 2**64)  # the chains may have begun at draws of the same seed
    for metric in (METRICS["sliced_wasserstein_2"], METRICS["mode_weights"]):
        measure: Any = metric.of_positions
        typer.echo(
            f"{metric.label} {measure(x, mixture).value:.4g} (exact samples: {measure(draws, mixture).value:.4g})"
        )
