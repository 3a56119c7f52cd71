"""The command ``uldnum quality``, and the quality of the images of other commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uldnum.cli import options
from uldnum.cli.common import parse_interval, print_json, run_study, split_names, write_study
from uldnum.cli.networks import Opening, with_network_options
from uldnum.studies.configuration import QualityConfiguration, option_of

if TYPE_CHECKING:
    from uldnum._util.typing import Array
    from uldnum.sampling.run import Run
    from uldnum.studies.comparison import Comparison
    from uldnum.targets import Law

__all__ = ["DataRange", "Features", "Reference", "compared_with", "comparison_options", "print_quality", "quality"]

Reference = Annotated[
    str | None,
    typer.Option(
        help="Images with which the final images are compared: mnist-images, a folder of images, or an .npz or .npy "
        "file. The command then prints metrics of quality, as 'uldnum quality' does. Default: none.",
        show_default=False,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Features of --reference: digits, pixels, projections, or an ONNX file. Default: digits.",
        show_default=False,
    ),
]
DataRange = Annotated[
    str | None, typer.Option(help=option_of(QualityConfiguration, "data_range").shell, show_default=False)
]

# Metrics that other commands print.
PRINTED = ["frechet", "kernel", "precision", "recall"]

# Width of a column of metrics.
CELL = 19


@with_network_options
@options.with_options_of(
    QualityConfiguration, network="mnist", samplers="heun,ddim,dpm-solver++,baoab-limit", nfe="5,10,20",
    reference="mnist-images",
)  # fmt: skip
def quality(
    given: dict[str, Any],
    opening: Opening,
    scheduler: options.Scheduler = None,
    out: options.Out = Path("out"),
    as_json: options.AsJson = False,
) -> None:
    """Measure the quality of images of samplers against the number of score evaluations.

    The images of each sampler are compared with real images in a space of features. The Frechet distance FD(digits) is
    the distance between two normal distributions, which have the means and the covariances of the features 'digits' of
    samples and of real images. It is extrapolated to infinitely many samples. It is not FID, which uses the features of
    Inception v3, and the two numbers cannot be compared. Precision is the fraction of samples that look real, and
    recall the fraction of real images that samples resemble.

    The command prints each value with its standard error. The last line is the floor: the value of as many real images
    that are held out. A sampler whose value is at the floor cannot be told from the data by that number. The command
    writes OUT/quality.nc (an xarray dataset with all metrics) and OUT/quality.png. Images are sampled in batches; a
    stopped command continues from the stored batches.

    With the defaults, the command takes two to three minutes on two free cores. The real digits download on first use.

    Other images: --reference is a folder of PNG or JPEG files, which may have subfolders train and test, or an .npz
    file with the arrays train and test. The images in test are held out. For FID, --features is an ONNX model of
    Inception v3 that includes the preprocessing: clip, round to 8 bits, repeat a grey channel, resize to 299 x 299,
    scale to [-1, 1]; its output is the 2048 means over positions of the last block.

    Examples: uldnum quality

    uldnum quality --samplers "heun,mild(0.38),baoab-limit@1.6" --nfe 20,50

    uldnum quality --network model.onnx --reference photographs/ --features inception.onnx --images 10000
    """
    from uldnum import studies
    from uldnum._util.extras import require
    from uldnum._util.files import writable_folder
    from uldnum._util.parsing import whole
    from uldnum.plotting import draw_quality
    from uldnum.sampling.lookup import find_data

    require("matplotlib", "plot")
    try:
        nfe = [whole(part) for part in given["nfe"].split(",")]
    except ValueError as error:
        raise ValueError(f"nfe: {error}") from None
    if opening.labels:
        raise ValueError("class, prompt: must be one class and one prompt, whose images are compared, got several")
    chosen = given | {
        "network": find_data(given["network"], **opening.arguments(given["backend"])),
        "samplers": split_names(given["samplers"]), "nfe": nfe,
        "metrics": given["metrics"] and split_names(given["metrics"]), "store": out / "points",
        "data_range": parse_interval("data-range", given["data_range"]),
    }  # fmt: skip
    writable_folder(out)
    with studies.scheduler(scheduler) as executor:
        study = run_study(studies.quality, chosen | {"executor": executor}, out)
    data, figure = write_study(study, out, "quality", draw_quality)
    if as_json:
        print_json(study.drop_vars("images"), data, figure)
        return
    known = [str(name) for name in study.metric.values]
    printed = [name for name in PRINTED if name in known and not given["metrics"]] or known
    for line in table(study, printed):
        typer.echo(line)
    if len(printed) < len(known):
        typer.echo(f"\nalso in the data: {', '.join(name for name in known if name not in printed)}")
    typer.echo(f"\ndata:   {data}\nfigure: {figure}")


def table(study: Any, metrics: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table of metrics: one row for each sampler and number of evaluations, and the floors."""
    a, name = study.attrs, max([len(study.floor_source), *map(len, study.sampler.values)]) + 2
    yield (
        f"{a['chains']} images of each sampler on {a['network']}, compared with {a['reference']} in the features "
        f"{a['features']}; values ± standard errors."
    )
    for metric in metrics:
        unit = str(study.unit.sel(metric=metric).values)
        yield f"{metric}: {study.label.sel(metric=metric).values}{unit and f', in {unit}'}"
    yield f"\n{'sampler':{name}}{'evaluations':>11}" + "".join(f"{metric:>{CELL}}" for metric in metrics)
    counts = {}
    for sampler in study.sampler.values:
        for nfe in study.nfe.values:
            at = study.sel(sampler=sampler, nfe=nfe)
            if at.evaluations > 0:
                cells = (cell(at.sel(metric=metric), "value", "error") for metric in metrics)
                yield f"{sampler:{name}}{int(at.evaluations):>11}" + "".join(f"{text:>{CELL}}" for text in cells)
                counts[int(at.n)] = at
    for count, at in counts.items():
        cells = (cell(at.sel(metric=metric), "floor", "floor_error") for metric in metrics)
        label = a["floor_source"] if len(counts) == 1 else f"{a['floor_source']}, {count}"
        yield f"{label:{name + 11}}" + "".join(f"{text:>{CELL}}" for text in cells)


def cell(at: Any, value: str, error: str) -> str:
    """Return the text of a value and its standard error."""
    return pair(float(at[value]), float(at[error]))


def pair(value: float, error: float) -> str:
    """Return the text of a value and its standard error, to two digits of the error."""
    if not isfinite(value):
        return "not known"
    digits = max(0, 1 - floor(log10(error))) if isfinite(error) and error > 0 else 3
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def comparison_options(reference: str | None, features: str | None, data_range: str | None) -> dict[str, Any]:
    """Return the options of a comparison with reference images (empty without a reference), or raise an error."""
    given = {"features": features, "data_range": parse_interval("data-range", data_range)}
    given = {name: value for name, value in given.items() if value is not None}
    if reference is None and given:
        raise ValueError(f"{', '.join(given)}: must be given together with --reference")
    return {} if reference is None else given | {"reference": reference}


def compared_with(law: Law, chains: int, options: dict[str, Any]) -> Comparison | None:
    """Return the comparison of final images with reference images, or raise if they cannot be compared."""
    from uldnum.studies.comparison import Comparison

    if not options:
        return None
    if len(law.shape) != 3:
        raise ValueError(f"reference: needs images, but {law.name!r} is a distribution of vectors")
    return Comparison.of(law, law.shape, chains, metrics=PRINTED, **options)


def print_quality(comparison: Comparison, run: Run, images: Array) -> None:
    """Print metrics of the final images of a run, with errors and floors."""
    from uldnum.studies.batches import survivors

    whole = survivors(run, images)
    count = int(whole.sum())
    lost = f", {len(whole) - count} of which diverged and have no image" if count < len(whole) else ""
    typer.echo(
        f"{len(whole)} final images{lost}, compared with {comparison.reference.name} in the features "
        f"{comparison.features.name}; in parentheses {comparison.floor_source}:"
    )
    if count < comparison.least:
        typer.echo(f"too few images: at least {comparison.least} are needed")
        return
    metrics = comparison.metrics(count)
    found = comparison.measured(metrics, comparison.of_images(images[whole]))
    floors = comparison.floor(metrics, count)
    for metric in metrics:
        typer.echo(f"{metric.title}: {pair(*found[metric.name])} ({pair(*floors[metric.name])})")
