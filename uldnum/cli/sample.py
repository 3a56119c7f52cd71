"""uldnum sample: chains on an image network."""

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
from uldnum.cli.common import interrupted, keep_stopped, saved, still_there
from uldnum.cli.options import Seed
from uldnum.schemes.catalogue import integrator as find_integrator

if TYPE_CHECKING:
    import xarray as xr

    from uldnum.networks import Network, NetworkLevel
    from uldnum.sampling.run import Run

__all__ = ["sample"]

# States of one chain that the strip shows at most, and chains that the grid shows.
STRIP, GRID = 30, 64


def sample(
    network: Annotated[
        str,
        typer.Option(help="A network of 'uldnum list', an .onnx file, or a folder that diffusers wrote."),
    ] = "mnist",
    integrator: Annotated[
        str, typer.Option(help="A name or a splitting word; 'uldnum list' shows them.")
    ] = "baoab-limit",
    steps: Annotated[int, typer.Option(min=1, help="Time steps.")] = 200,
    chains: Annotated[int, typer.Option(min=1, help="Independent chains.")] = 16,
    every: Annotated[int | None, typer.Option(min=1, help="Steps between stored states. Default: steps/20.")] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise level: the network's own sigma. Default: the network's card.", show_default=False),
    ] = None,
    sigma_ratio: Annotated[float | None, typer.Option(help="The noise level as sigma/alpha instead.")] = None,
    t: Annotated[float | None, typer.Option("--t", help="... or as the t of the network's schedule.")] = None,
    h: Annotated[float | None, typer.Option(help="Step size in units of sigma. Default: 2, or the card's.")] = None,
    delta: Annotated[float | None, typer.Option(help="The step size as delta = h^2/2, in units of sigma^2.")] = None,
    friction: Annotated[float, typer.Option(help="Friction, in units of 1/sigma.")] = 1.0,
    seed: Seed = 0,
    denoise: Annotated[bool, typer.Option(help="Show states denoised, or as they are.")] = True,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", help="Another input of the model, NAME=FILE.npy: one row, or one a chain."),
    ] = None,
    unconditional: Annotated[
        list[str] | None, typer.Option(help="The same without its condition, for guidance: NAME=FILE.npy.")
    ] = None,
    guidance: Annotated[float, typer.Option(help="Weight of classifier-free guidance; 1 is none.")] = 1.0,
    clip: Annotated[bool, typer.Option("--clip", help="Clip denoised images in every step.")] = False,
    card: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the network's card: KEY=VALUE, in TOML's notation.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Images in one call of the network, at most.")] = 64,
    backend: Annotated[str, typer.Option(help="array (CPU), cuda or cuda-fast.")] = "array",
    gif: Annotated[bool, typer.Option("--gif", help="Write the chains as a moving picture too.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say which share of the time the network took.")] = False,
    states: Annotated[
        Path | None, typer.Option(help="File of the states, .nc or .zarr. Default: OUT/run.nc.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the states of an earlier run.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("out"),
) -> None:
    """Run chains on an image network at one noise level, and draw denoised images along them.

    Chains start from noise. Writes OUT/strip.png (along the first chain), OUT/grid.png (the last states of all chains)
    and OUT/run.nc: an xarray dataset with the states ('trace'), their denoised images ('denoised') and every
    parameter. After Ctrl-C, the same command with --resume goes on.

    Examples: uldnum sample

    uldnum sample --network galaxygrad-quasar72 --integrator BAOAB --h 1 --steps 400 --gif

    uldnum sample --network model.onnx --set parameterisation=epsilon --set scaling=ve --set condition=sigma
    """
    import uldnum
    from uldnum import networks
    from uldnum._util.files import check_room, check_store, writable_folder
    from uldnum.plotting.pictures import check_look
    from uldnum.sampling.run import Run

    require("matplotlib", "plot")
    if backend not in (known := ("array", "cuda", "cuda-fast")):
        raise ValueError(f"backend: networks run on {', '.join(known)}, got {backend!r}")
    writable_folder(out)
    stored = check_store(states or out / "run.nc")
    writable_folder(stored.parent)
    keep_stopped(stored, resume)
    scheme = find_integrator(integrator)
    positive("friction", friction)
    earlier = Run.load(stored, "resume") if resume else None
    if every is None:
        every = -(-steps // 20) if earlier is None else earlier.settings.thin
    if every is None or every > steps:
        raise ValueError(f"every: must be at most steps = {steps}, got {every}")
    net = networks.network(
        network,
        pairs("set", card, networks.parse_value),
        device="cpu" if backend == "array" else "cuda",
        inputs=pairs("input", given, load_array),
        unconditional=pairs("unconditional", unconditional, load_array),
        guidance=guidance,
        clip=clip,
        chunk=chunk,
    )
    level = net.at(sigma, ratio=sigma_ratio, t=t)
    check_look(net.card)
    kept = steps // every * (1 + denoise) + 2 * scheme.rows
    needed = kept * chains * math.prod(level.shape) * np.dtype(level.dtype).itemsize
    check_room(stored, needed, "out" if states is None else "states")
    step = net.card.h if h is None and delta is None else float(step_size(h, delta))

    options: dict[str, Any] = {"h": step, "friction": friction, "chains": chains, "seed": seed, "backend": backend}
    if profile:  # what is compiled or loaded once is no part of a step
        uldnum.sample(level, scheme, steps=1, progress=False, **options)
    begun, before, images_before = time.perf_counter(), net.model.seconds, net.images
    run = uldnum.sample(
        level, scheme, steps=steps, thin=every, resume=earlier,
        progress=f"{scheme.name} on {net.name}", **options,
    )  # fmt: skip
    seconds, inside = time.perf_counter() - begun, net.model.seconds - before
    rate = (net.images - images_before) / seconds
    saved(lambda: described(run, net, level), stored)  # before anything else can go wrong
    with still_there(stored):
        images = pictures(net, level, run, denoise)
    if denoise:
        saved(lambda: described(run, net, level, images), stored)
    how = f"{scheme.name}, h = {step:.3g} sigma{'' if denoise else ', not denoised'}"
    with still_there(stored):
        typer.echo(f"{run.nfe} evaluations of {chains} images on {level.name}: {rate:.4g} images a second")
        if profile:
            other = seconds - inside
            typer.echo(f"network {inside:.2f} s, everything else {other:.2f} s ({other / seconds:.1%})")
        if not run.complete:
            interrupted(f"{run.recorded_steps} of {steps} steps are in {stored}; go on with --resume")
        draw(net, level, run, images, out, gif, how)
        typer.echo(f"states: {stored}")


def pairs(option: str, texts: list[str] | None, read: Any) -> dict[str, Any]:
    """Read options of the form NAME=VALUE."""
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{option}: must be NAME=VALUE, got {text!r}")
        found[name.strip()] = read(value)
    return found


def load_array(path: str) -> Array:
    """Read an array from a file."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"input: {path!r} is no array in NumPy's format (.npy): {error}") from None


def pictures(net: Network, level: NetworkLevel, run: Run, denoise: bool) -> Array:
    """Return the recorded states, denoised if they are to be, shape (recorded, chains, *shape)."""
    trace = run.trace if run.trace is not None else np.empty((0, run.settings.chains, *level.shape), np.float32)
    if not denoise:
        return trace
    space = net.device.namespace
    bar = tqdm(trace, desc="denoising", unit="state", delay=1.0, disable=None, leave=False)
    images = [level.denoise(space.asarray(x)) for x in bar]
    host = images if net.device.name == "cpu" else [space.asnumpy(image) for image in images]
    return np.stack(host) if host else trace


def described(run: Run, net: Network, level: NetworkLevel, images: Array | None = None) -> xr.Dataset:
    """Return the run as a dataset, with what is known of the network, and the denoised images."""
    dataset = run.to_xarray()
    if images is not None:
        dataset["denoised"] = (("recorded", "chain", "channel", "y", "x"), images, {"units": net.card.unit})
    told = {"network": net.name, "source": net.card.source, "licence": net.card.licence}
    return dataset.assign_attrs(told | {"alpha": level.alpha, "sigma": level.sigma})


def draw(net: Network, level: NetworkLevel, run: Run, images: Array, out: Path, gif: bool, how: str) -> None:
    """Draw the strip, the grid and the moving picture, and say where they are."""
    from uldnum.plotting.pictures import coloured, draw_gif, draw_images

    every, card = run.settings.thin or 1, net.card
    shown = np.unique(np.linspace(0, len(images) - 1, STRIP).round().astype(int))
    titles = [f"step {every * (i + 1)}" for i in shown]
    strip, grid = out / "strip.png", out / "grid.png"
    one_chain, last = coloured(net.decode(images[shown, 0]), card), coloured(net.decode(images[-1, :GRID]), card)
    draw_images(one_chain, titles, f"{level.name}: along one chain of {how}", strip)
    draw_images(last, [], f"{level.name}: {len(last)} chains after {every * len(images)} steps of {how}", grid)
    typer.echo(f"strip:  {strip}\ngrid:   {grid}")
    if gif:
        frames = [coloured(net.decode(state[:16]), card) for state in images]
        typer.echo(f"movie:  {draw_gif(frames, out / 'chains.gif')}")
