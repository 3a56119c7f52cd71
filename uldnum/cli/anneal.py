"""The command ``uldnum anneal``: run chains through a sequence of noise levels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from uldnum.cli.common import (
    check_divergence,
    explain_words,
    interrupted,
    naming_result,
    protect_stopped_run,
    save_result,
)
from uldnum.cli.networks import Opening, with_network_options
from uldnum.cli.options import ScoreNoise, Seed, Temperature, count
from uldnum.cli.quality import DataRange, Features, Reference, compared_with, comparison_options, print_quality
from uldnum.schemes.predictors import NoiseLevel

__all__ = ["anneal"]

# Maximum number of chains in the grid of images.
GRID = 64

# Default noise levels of data that have no schedule.
USUAL = "karras:20:0.02:20"


@with_network_options
def anneal(
    opening: Opening,
    context: typer.Context,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Data distribution: the name of a Gaussian mixture or a network in 'uldnum list', a TOML file of a "
            "mixture, an ONNX file of a network, a diffusers folder with ONNX models, or mnist-images:COUNT for the "
            "exact score of the first COUNT training images of MNIST.",
        ),
    ] = "mnist",
    method: Annotated[
        str,
        typer.Option(
            help="Name of an integrator, a predictor or a plan of the literature; 'uldnum list' shows them. "
            "A plan of the literature has its own levels, steps and step sizes."
        ),
    ] = "heun",
    levels: Annotated[
        str | None,
        typer.Option(
            help="Noise levels: geometric:FIRST:LAST:COUNT or karras:FIRST:LAST:COUNT, where FIRST and LAST are "
            "values of sigma/alpha; linear:COUNT, scaled-linear:COUNT, cosine:COUNT or vp-sde:COUNT for a "
            "variance-preserving schedule; flow:COUNT:SHIFT for flow matching; or own:COUNT for the schedule of the "
            "network. If the network supports only integer timesteps, the levels are moved to the nearest timesteps. "
            "Default: own:20 for a network that has a schedule, otherwise karras:20:0.02:20.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int, count("Number of steps of the integrator at each noise level.")] = 1,
    h: Annotated[
        float | None,
        typer.Option(
            help="Step size of the integrator, in units of sigma of the current level. "
            "An integrator needs exactly one of --h, --eps and --snr."
        ),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(help="Step size as h^2/2 at the last level, in absolute units; h/sigma is equal at all levels."),
    ] = None,
    snr: Annotated[
        float | None,
        typer.Option(help="Signal-to-noise ratio of step sizes that are inversely proportional to the score norm."),
    ] = None,
    friction: Annotated[
        float, typer.Option(help="Friction in units of 1/sigma of the level; overdamped integrators ignore it.")
    ] = 1.0,
    temperature: Temperature = 1.0,
    score_noise: ScoreNoise = 0.0,
    predictor: Annotated[
        str | None,
        typer.Option(help="Predictor that maps each level to the next, after the steps of the integrator."),
    ] = None,
    momentum: Annotated[
        str,
        typer.Option(
            help="Treatment of the momentum between levels: kept, rescaled (by the ratio of the sigmas) or refreshed."
        ),
    ] = "kept",
    boundary: Annotated[
        str,
        typer.Option(
            help="Scores at the boundary of two levels, for schemes such as BAOAB: own (the end of a level and the "
            "start of the next one use the score of their own level) or shared (both use the score of the next level)."
        ),
    ] = "own",
    denoise: Annotated[bool, typer.Option(help="End with a denoising step (Tweedie's formula).")] = True,
    chains: Annotated[int, count("Number of independent chains.")] = 64,
    seed: Seed = 0,
    x0: Annotated[
        str | None,
        typer.Option(
            help="Initial distribution of the chains: target, normal or uniform. Default: that of the plan.",
            show_default=False,
        ),
    ] = None,
    reference: Reference = None,
    features: Features = None,
    data_range: DataRange = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Backend: numba, array, cuda or cuda-fast. Default: numba if it supports the data and there is no "
            "--snr, otherwise array."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the stopped run in OUT/anneal.nc. Other options must not change.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for all output files; it is created if absent.")] = Path("out"),
) -> None:
    """Run chains through a sequence of noise levels, from noise to data.

    The command writes OUT/anneal.nc, and OUT/anneal.png with the final states: images of at most 64 chains, or the
    first two coordinates of vectors. For a mixture it prints two distances between the final states and the data
    distribution. For comparison it prints the distances of the same number of exact samples. After Ctrl-C, the same
    command with --resume resumes the run.

    Examples: uldnum anneal

    uldnum anneal --method baoab-limit --h 1 --levels geometric:20:0.02:50

    uldnum anneal --data gmm-40 --method ula --h 0.5 --steps 2 --predictor ddim --levels geometric:50:0.1:100
    """
    import uldnum
    from uldnum._util.extras import require
    from uldnum._util.files import check_store, writable_folder
    from uldnum.plans._plan import find_method, is_controlled, is_predictor
    from uldnum.plans.presets import PRESETS
    from uldnum.plotting.pictures import check_display
    from uldnum.sampling.lookup import find_data, find_levels

    require("matplotlib", "plot")
    compared = comparison_options(reference, features, data_range)
    stored = check_store(writable_folder(out) / "anneal.nc")
    protect_stopped_run(stored, resume)
    given: dict[str, Any] = {"steps": steps, "h": h, "eps": eps, "snr": snr, "friction": friction}
    given |= {"temperature": temperature, "score_noise": score_noise, "predictor": predictor, "momentum": momentum}
    given |= {"boundary": boundary, "denoise": denoise}

    def told(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    said = [name for name in ("levels", *given) if told(name)]
    preset = method.lower() in PRESETS
    of_steps = [name for name in said if name not in ("levels", "score_noise", "denoise")]
    if of_steps and not told("method"):
        raise ValueError(
            f"method: must be an integrator with --{of_steps[0]}, and the default {method!r} is a predictor"
        )
    if preset and said:
        option = said[0].replace("_", "-")
        raise ValueError(f"{option}: {method!r} has its own levels, steps and step sizes; leave out --{option}")
    # A plan with the usual levels shows faults of the other options before a network is loaded, which may take long.
    own = (levels or "own").partition(":")[0].strip() == "own"
    asked = uldnum.levels.parse(USUAL if own else str(levels))
    chosen = uldnum.preset(method) if preset else uldnum.plan(method, asked, **given)
    law = find_data(data, **opening.arguments(backend))
    images = len(law.shape) == 3
    if images:
        check_display(law.display)
    comparison = compared_with(law, chains, compared)
    moved = False
    if not preset:
        found = find_levels(levels or (USUAL if law.time is None else "own:20"), law)
        chosen = uldnum.plan(method, found, **given)
        moved = not (own or np.array_equal(found.ratio, asked.ratio))
    if not (preset or is_predictor(method) or is_controlled(method)):
        explain_words(find_method(method))
    begun = time.perf_counter()
    run = uldnum.anneal(
        law, chosen, chains=chains, seed=seed, x0=x0, backend=backend,
        resume=stored if resume else None, progress=f"{chosen.name} on {law.name}",
    )  # fmt: skip
    save_result(run.save, stored)
    with naming_result(stored):
        check_divergence(run, "the step sizes of the plan; take smaller steps or more levels")
        seconds, name = time.perf_counter() - begun, chosen.name + run.settings.conditions
        typer.echo(f"{name}: {run.nfe} evaluations of {chains} chains in {seconds:.2f} s")
        typer.echo(
            f"noise levels: from {place(law, *chosen.start)} to {place(law, chosen.alpha[-1], chosen.sigma[-1])}"
        )
        if moved:
            typer.echo(f"the {len(asked)} levels are moved to the nearest timesteps of {law.name}; {len(found)} differ")
        if not run.complete:
            interrupted(f"{run.recorded_steps} of {run.steps} steps are in {stored}; continue with --resume")
        show(law, chosen, run.x, out / "anneal.png", opening.labels)
        if images:
            if comparison is not None:
                print_quality(comparison, run, law.decode(run.x))
        elif chains > 1 and not run.diverged and getattr(law, "draws", None) is not None:
            compare(law, run.x, seed, chosen.temperature)
        typer.echo(f"states: {stored}")


def place(law: Any, alpha: float, sigma: float) -> str:
    """Return the text of a noise level: sigma/alpha and, if the data have a schedule, the time."""
    ratio = float(NoiseLevel(alpha, sigma).r)
    return f"sigma/alpha = {ratio:.4g}" + ("" if law.time is None else f" (t = {law.time(ratio):.4g})")


def show(law: Any, chosen: Any, x: Any, path: Path, labels: list[str]) -> None:
    """Draw the final states: images of at most 64 chains, or the points of all chains."""
    from uldnum.plotting.pictures import coloured, draw_grid, draw_points

    caption = f"{law.name}: {{}} chains of {chosen.name}"
    if len(law.shape) == 3:
        draw_grid(coloured(law.decode(x[:GRID]), law.display), caption.format(min(len(x), GRID)), path, labels)
    else:
        draw_points(x.reshape(len(x), -1), caption.format(len(x)), path, labels)
    typer.echo(f"figure: {path}")


def compare(mixture: Any, x: Any, seed: int, temperature: float) -> None:
    """Print two distances between states and a mixture, and those of as many exact samples, with standard errors."""
    from uldnum.diagnostics.expectations import at_temperature
    from uldnum.diagnostics.metrics import METRICS

    try:
        mixture = at_temperature(mixture, temperature)
    except ValueError:
        typer.echo(f"distances to {mixture.name} at temperature {temperature:g} are not known")
        return
    # The seed differs from that of the run, because the chains may have started at draws with that seed.
    draws = mixture.sample(len(x), (seed + 1) % 2**64)
    for metric in (METRICS["sliced_wasserstein_2"], METRICS["mode_weights"]):
        measure: Any = metric.of_positions
        run, exact = (
            f"{found.value:.3g} ± {found.error:.1g}" for found in (measure(x, mixture), measure(draws, mixture))
        )
        typer.echo(f"{metric.label} {run} (as many exact samples: {exact})")
