"""The command ``uldnum sample``: run chains on an image network at one noise level."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from tqdm.auto import tqdm

from uldnum._util.arguments import positive, step_size
from uldnum._util.extras import require
from uldnum._util.typing import Array
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
from uldnum.schemes.catalogue import integrator as find_integrator

if TYPE_CHECKING:
    import xarray as xr

    from uldnum.networks import Network, NetworkLevel
    from uldnum.sampling.run import Run

__all__ = ["sample"]

# Maximum number of states in the strip of one chain, and of chains in the grid.
STRIP, GRID = 30, 64


@with_network_options
def sample(
    opening: Opening,
    network: Annotated[
        str,
        typer.Option(help="Network: a name in 'uldnum list', an ONNX file, or a diffusers folder with ONNX models."),
    ] = "mnist",
    integrator: Annotated[
        str,
        typer.Option(help="Integrator: a name in 'uldnum list', or a splitting word such as BAOAB."),
    ] = "baoab-limit",
    steps: Annotated[int, count("Number of time steps of each chain.")] = 200,
    chains: Annotated[int, count("Number of independent chains.")] = 16,
    every: Annotated[
        int | None,
        count("Number of steps between stored states. Default: steps/20, rounded up; with --resume, that of the run."),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Noise level as sigma of z = alpha x + sigma eps, in the units of the images. "
            "Default: that of the network's card. Give at most one of --sigma, --sigma-ratio and --t.",
            show_default=False,
        ),
    ] = None,
    sigma_ratio: Annotated[float | None, typer.Option(help="Noise level as the ratio sigma/alpha.")] = None,
    t: Annotated[float | None, typer.Option("--t", help="Noise level as the time t of the network's schedule.")] = None,
    h: Annotated[
        float | None,
        typer.Option(
            help="Step size in units of sigma. Default: that of the network's card, or 2 if the card has none.",
        ),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Step size as delta = h^2/2, in units of sigma^2, instead of --h.")
    ] = None,
    friction: Annotated[
        float, typer.Option(help="Friction in units of 1/sigma; overdamped integrators ignore it.")
    ] = 1.0,
    temperature: Temperature = 1.0,
    score_noise: ScoreNoise = 0.0,
    seed: Seed = 0,
    denoise: Annotated[
        bool, typer.Option(help="Draw and store denoised images, instead of drawing the noisy states.")
    ] = True,
    reference: Reference = None,
    features: Features = None,
    data_range: DataRange = None,
    backend: Annotated[str, typer.Option(help="Backend: array (on the CPU), cuda or cuda-fast.")] = "array",
    gif: Annotated[bool, typer.Option("--gif", help="Also write OUT/chains.gif, an animation of the chains.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time spent in the network and the time spent elsewhere.")
    ] = False,
    states: Annotated[
        Path | None,
        typer.Option(help="File for the states, .nc or .zarr. Default: OUT/run.nc.", show_default=False),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume the stopped run in the file of states. Other options must not change."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for all output files; it is created if absent.")] = Path("out"),
) -> None:
    """Run chains on a network at one noise level, and plot the denoised images.

    The chains start from noise. The command writes OUT/strip.png (states along the first chain), OUT/grid.png (the last
    states of all chains) and OUT/run.nc, an xarray dataset with the states ('trace'), their denoised images
    ('denoised') and all parameters. If the samples are vectors, OUT/points.png with the first two coordinates of the
    last states, or their histogram, replaces the images. After Ctrl-C, the same command with --resume resumes the run.

    Examples: uldnum sample

    uldnum sample --network galaxygrad-quasar72 --integrator BAOAB --h 1 --steps 400 --gif

    uldnum sample --network model.onnx --set parameterisation=epsilon --set scaling=ve --set condition=sigma
    """
    import uldnum
    from uldnum import networks
    from uldnum._util.files import check_room, check_store, writable_folder
    from uldnum.plotting.pictures import check_display
    from uldnum.sampling.run import Run
    from uldnum.sampling.storage import write

    require("matplotlib", "plot")
    scheme = find_integrator(integrator).at(temperature=temperature, score_noise=score_noise)
    positive("friction", friction)
    given_step = None if h is None and delta is None else float(step_size(h, delta))
    if backend not in (known := ("array", "cuda", "cuda-fast")):
        raise ValueError(f"backend: must be one of {', '.join(known)} for a network, got {backend!r}")
    compared = comparison_options(reference, features, data_range)
    writable_folder(out)
    stored = check_store(states or out / "run.nc")
    writable_folder(stored.parent)
    protect_stopped_run(stored, resume)
    earlier = Run.load(stored, "resume") if resume else None
    if every is None:
        every = -(-steps // 20) if earlier is None else earlier.settings.thin
    if every is None or every > steps:
        raise ValueError(f"every: must be at most steps = {steps}, got {every}")
    net = networks.network(network, **opening.arguments(backend))
    level = net.at(sigma, ratio=sigma_ratio, t=t)
    pictures = len(level.shape) == 3
    if pictures:
        check_display(net.display)
    elif gif:
        raise ValueError(f"gif: needs images, but the samples of {net.name} have the shape {level.shape}")
    comparison = compared_with(net, chains, compared)
    kept = steps // every * (1 + denoise) + 2 * scheme.rows
    needed = kept * chains * math.prod(level.shape) * np.dtype(level.dtype).itemsize
    check_room(stored, needed, "out" if states is None else "states")
    step = net.card.h if given_step is None else given_step
    explain_words(scheme)

    options: dict[str, Any] = {"h": step, "friction": friction, "chains": chains, "seed": seed, "backend": backend}
    if profile:  # exclude one-time compilation and loading from the timing
        uldnum.sample(level, scheme, steps=1, progress=False, **options)
    begun, before, images_before = time.perf_counter(), net.model.seconds, net.model.images
    run = uldnum.sample(
        level, scheme, steps=steps, thin=every, resume=earlier,
        progress=f"{scheme.label} on {net.name}", **options,
    )  # fmt: skip
    seconds, inside = time.perf_counter() - begun, net.model.seconds - before
    rate = (net.model.images - images_before) / seconds
    save_result(lambda path: write(run, dataset_of(run, net, level), path), stored)  # before anything else can fail
    with naming_result(stored):
        check_divergence(run, f"h = {step:.3g} sigma; take a smaller --h")
        images = recorded_images(net, level, run, denoise)
    if denoise:
        save_result(lambda path: write(run, dataset_of(run, net, level, images), path), stored)
    how = f"{scheme.label}, h = {step:.3g} sigma{'' if denoise else ', not denoised'}"
    with naming_result(stored):
        kind = "images" if pictures else "vectors"
        typer.echo(f"{run.nfe} evaluations of {chains} {kind} on {level.name}: {rate:.4g} {kind} a second")
        if profile:
            other = seconds - inside
            typer.echo(f"network {inside:.2f} s, everything else {other:.2f} s ({other / seconds:.1%})")
        if not run.complete:
            interrupted(f"{run.recorded_steps} of {steps} steps are in {stored}; continue with --resume")
        if pictures:
            draw(net, level, run, images, out, gif, how, opening.labels)
        else:
            draw_last(level, images, out / "points.png", how, opening.labels)
        if comparison is not None:
            print_quality(comparison, run, net.decode(images[-1]))
        typer.echo(f"states: {stored}")


def recorded_images(net: Network, level: NetworkLevel, run: Run, denoise: bool) -> Array:
    """Return the recorded states, denoised if ``denoise`` is set, shape (recorded, chains, *shape)."""
    trace = run.trace if run.trace is not None else np.empty((0, run.settings.chains, *level.shape), np.float32)
    if not denoise:
        return trace
    space, level = net.device.namespace, level.of_chains(run.settings.first_chain, run.settings.chains)
    bar = tqdm(trace, desc="denoising", unit="state", delay=1.0, disable=None, leave=False)
    images = [level.denoise(space.asarray(x)) for x in bar]
    host = images if net.device.name == "cpu" else [space.asnumpy(image) for image in images]
    return np.stack(host) if host else trace


def dataset_of(run: Run, net: Network, level: NetworkLevel, images: Array | None = None) -> xr.Dataset:
    """Return the run as a dataset, with the denoised images and the network's name, source and licence."""
    from uldnum.sampling.storage import sample_dims

    dataset = run.to_xarray()
    if images is not None:
        dataset["denoised"] = (("draw", "chain", *sample_dims(level.shape)), images, {"units": net.card.unit})
    origin = {"network": net.name, "source": net.card.source, "licence": net.card.licence}
    shown = {"display": list(net.display.limits), "gamma": net.display.gamma, "colours": net.display.colours}
    return dataset.assign_attrs(origin | shown | {"alpha": level.alpha, "sigma": level.sigma})


def draw_last(level: NetworkLevel, states: Array, path: Path, how: str, labels: list[str]) -> None:
    """Draw the last states of chains of vectors, and print the path of the figure."""
    from uldnum.plotting.pictures import draw_points

    caption = f"{level.name}: {states.shape[1]} chains of {how}"
    draw_points(states[-1].reshape(states.shape[1], -1), caption, path, labels)
    typer.echo(f"points: {path}")


def draw(
    net: Network, level: NetworkLevel, run: Run, images: Array, out: Path, gif: bool, how: str, labels: list[str]
) -> None:
    """Draw the strip, the grid and the animation, and print the paths of their files."""
    from uldnum.plotting.pictures import coloured, draw_gif, draw_grid, draw_images

    every, display = run.settings.thin or 1, net.display
    shown = np.unique(np.linspace(0, len(images) - 1, STRIP).round().astype(int))
    titles = [f"step {every * (i + 1)}" for i in shown]
    strip, grid = out / "strip.png", out / "grid.png"
    one_chain, last = (coloured(net.decode(chosen), display) for chosen in (images[shown, 0], images[-1, :GRID]))
    draw_images(one_chain, titles, f"{level.name}: along one chain of {how}", strip)
    draw_grid(last, f"{level.name}: {len(last)} chains after {every * len(images)} steps of {how}", grid, labels)
    typer.echo(f"strip:  {strip}\ngrid:   {grid}")
    if gif:
        frames = [net.decode(state[:16]) for state in images]
        typer.echo(f"movie:  {draw_gif(frames, out / 'chains.gif', display)}")
