"""Numbers of the images of `analysis.quality_runs`, on one core in about two hours.

    python -m analysis.quality_numbers FOLDER [BATCHES]

FOLDER receives one file of images for each batch of each cell, and a file of features beside it. A run that was stopped
continues with the first missing file. At the end, the numbers of all cells and the pictures of the figures are written
to ``analysis/data/quality.nc``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from analysis.quality_runs import (
    COSTS,
    LANGEVIN,
    LAST,
    SCORES,
    SIGMA,
    TRAINING,
    TRIED,
    Cell,
    choice,
    cost,
    digits,
    eta,
    final,
    from_bytes,
    gain,
    law_of,
    level,
    to_bytes,
)
from uldnum._util.files import atomic, store
from uldnum._util.typing import Array
from uldnum.diagnostics import class_change_rate, classes_visited
from uldnum.diagnostics.images import ImageSet, Moments, frechet_distance, image_metrics, nearest_training
from uldnum.networks import features

DATA = Path(__file__).parent / "data" / "quality.nc"

COMPARED = {"exact": 1000, "network": 256}  # number n of images of precision and recall
REAL = 4000  # number of images of the distribution of a score with which kernel distance, precision, ... compare
NEAR = 10_000  # largest number of training digits among which the nearest is sought, a random subset
VISITS = 50  # number of evaluations in which visited classes are counted

QUALITY = ("frechet", "frechet_nearest", "kernel", "precision", "recall", "classes", "nearest_training")
MIXING = ("changes", "visited")

Numbers = dict[str, tuple[float, float]]  # value and standard error of metrics


class References(NamedTuple):
    """Images with which those of a cell are compared.

    Attributes
    ----------
    law : Moments or array
        Moments of the features of the distribution of the score if it is known exactly, and otherwise features of
        images of it.
    real : ImageSet
        Independent images of this distribution.
    floors : dict of str to array
        Images whose numbers are stated beside those of samplers: held-out digits, and exact draws of the distribution
        that is sampled.
    training, held_out : array or None
        Pixels of the training images of the score and of held-out digits, for annealed images.
    nearest : array or None
        Features of the training images of the exact score.
    """

    law: Any
    real: ImageSet
    floors: dict[str, Array]
    training: Array | None = None
    held_out: Array | None = None
    nearest: Array | None = None


@cache
def classifier() -> Any:
    """Return the features of the classifier in the package."""
    return features("digits")


def image_set(images: Array) -> ImageSet:
    """Return the features and the classes of images, (n, 1, height, width), which are rounded to bytes."""
    return ImageSet(*classifier().features_and_classes(from_bytes(to_bytes(images))))


def pixels(images: Array) -> Array:
    """Return the pixels of images, (n, 1, height, width) -> (n, height width)."""
    return images.reshape(len(images), -1)


@cache
def references(score: str) -> References:
    """Return the images with which annealed images of a score are compared.

    The distribution of the exact score is that of its training digits. That of the network is represented by all
    training digits. Subsets are random, because the order of the digits is not. Plans on the exact score end at the
    noise level LAST, so its exact draws have this noise.
    """
    exact, random, n = score == "exact", np.random.default_rng(0), 2 * COMPARED[score]
    training, held_out = digits().train[: TRAINING if exact else None], digits().held_out
    every = image_set(training)
    rows, drawn = random.choice(len(training), REAL + n, replace=exact), random.permutation(len(held_out))
    own = training[rows[REAL:]] + exact * LAST * random.standard_normal((n, *training.shape[1:]))
    return References(
        population(every.features) if exact else every.features,
        ImageSet(every.features[rows[:REAL]], np.asarray(every.classes)[rows[:REAL]]),
        {"held-out digits": held_out[drawn[:n]], "exact draws": own},
        pixels(training if exact else training[random.choice(len(training), NEAR, replace=False)]),
        pixels(held_out[drawn[n : n + 250]]),
        every.features if exact else None,
    )


@cache
def references_at_one_level(score: str) -> References:
    """Return the images with which those of chains at one level are compared.

    These are digits of the distribution of the score with noise, denoised by the score.
    """
    noisy, n, random = law_of(score).at(SIGMA[score]), 2 * COMPARED[score], np.random.default_rng(0)
    training = digits().train[: TRAINING if score == "exact" else None]
    real = REAL if score == "exact" else REAL // 4
    chosen = (*np.split(random.choice(training, real + n), [real]), random.choice(digits().held_out, n, replace=False))
    law, own, others = (noisy.denoise(x + noisy.sigma * random.standard_normal(x.shape, dtype=x.dtype)) for x in chosen)
    compared = image_set(law)
    return References(compared.features, compared, {"held-out digits": others, "exact draws": own})


def population(vectors: Array) -> Moments:
    """Return the moments of the distribution that has only these vectors, with equal probabilities."""
    found = Moments.of(vectors)
    return Moments(found.count, found.mean, found.scatter * (1 - 1 / found.count))


def quality(samples: ImageSet, others: References, n: int, images: Array | None = None) -> Numbers:
    """Return the metrics of samples, with the pixels of annealed images, shape (n, height width)."""
    found = {"frechet": frechet_distance(samples.features, others.law, chains=samples.chains)}
    known = image_metrics(k=5, n=n)
    for name in ("kernel", "precision", "recall", "classes"):
        found[name] = known[name].function(samples, others.real, None)
    if images is not None:
        found["nearest_training"] = nearest_training(images, others.training, others.held_out)
        if others.nearest is not None:
            copies = others.nearest[nearest_rows(images, others.training)]
            found["frechet_nearest"] = frechet_distance(copies, others.law)
    return {name: (float(bias.value), float(bias.error)) for name, bias in found.items()}


def shown_pixels(images: Array) -> Array:
    """Return the pixels of images that are rounded to bytes."""
    return pixels(from_bytes(to_bytes(images)))


def nearest_rows(images: Array, training: Any) -> Array:
    """Return the numbers of the nearest training images."""
    return np.asarray(((training**2).sum(axis=1) - 2 * images @ training.T).argmin(axis=1))


def mixing(classes: Array, nfe: float) -> Numbers:
    """Return the mixing of chains in equilibrium, (draws, chains), with ``nfe`` evaluations between draws.

    The rate of changes is per 1000 evaluations.
    """
    rate = class_change_rate(classes, nfe=nfe)
    found = {"changes": [1000 * part for part in rate], "visited": classes_visited(classes, VISITS, count=10, nfe=nfe)}
    return {name: (float(value), float(error)) for name, (value, error) in found.items()}


def stored_features(cell: Cell, folder: Path, batch: int, images: Array) -> tuple[Array, Array]:
    """Return features and classes of a batch, from the folder if they are there."""
    path = folder / f"{cell.key}-{batch}-{classifier().identity[:12]}.npz"
    if not path.is_file():
        vectors, classes = classifier().features_and_classes(from_bytes(images))
        with atomic(path) as file:
            np.savez_compressed(file, features=vectors.astype(np.float32), classes=classes.astype(np.uint8))
    with np.load(path) as parts:
        return parts["features"].astype(float), parts["classes"].astype(int)


def stored(cell: Cell, folder: Path) -> list[int]:
    """Return the numbers of the batches of a cell that are in the folder."""
    return [batch for batch in range(100) if cell.path(folder, batch).is_file()]


def measured(cell: Cell, folder: Path) -> dict[str, Any]:
    """Return the numbers of the stored batches of a cell."""
    batches = stored(cell, folder)
    runs = [cell.images(folder, batch) for batch in batches]
    parts = [stored_features(cell, folder, batch, run.images) for batch, run in zip(batches, runs, strict=True)]
    draws, size = runs[0].images.shape[:2]
    vectors = np.concatenate([part[0].reshape(draws, size, -1) for part in parts], axis=1)
    classes = np.concatenate([part[1].reshape(draws, size) for part in parts], axis=1)
    half, chains = draws // 2, vectors.shape[1]
    owner = None if draws == 1 else np.tile(np.arange(chains), draws - half)
    samples = ImageSet(vectors[half:].reshape(-1, vectors.shape[-1]), classes[half:].ravel(), owner)
    n = min(COMPARED[cell.score], len(samples.features))
    if draws == 1:
        images = pixels(from_bytes(np.concatenate([run.images for run in runs], axis=1)))
        known = quality(samples, references(cell.score), n, images)
    else:
        known = quality(samples, references_at_one_level(cell.score), n)
        known |= mixing(classes[half:], runs[0].nfe / draws)
    seconds = sum(run.seconds for run in runs)
    numbers = {"nfe": runs[0].nfe, "chains": chains, "images": len(samples.features), "seconds": seconds}
    return {"cell": cell, "metrics": known, **numbers}


def no_run(*_: Any) -> tuple[Array, float]:
    """Stand for the run of real images, which are not sampled."""
    raise NotImplementedError


def floors(score: str, at_one_level: bool) -> Iterator[dict[str, Any]]:
    """Yield the numbers of real images."""
    others = references_at_one_level(score) if at_one_level else references(score)
    for name, images in others.floors.items():
        samples, n = image_set(images), len(images)
        known = quality(samples, others, COMPARED[score], None if at_one_level else shown_pixels(images))
        cell = Cell("floor at one level" if at_one_level else "floor", score, name, 0.0, n, no_run)
        numbers = {"nfe": 0.0, "chains": n, "images": n, "seconds": 0.0}
        yield {"cell": cell, "metrics": known, **numbers}


def sizes_of(folder: Path) -> tuple[dict[str, float], dict[tuple[str, float], float]]:
    """Return the step size with the least Frechet distance for each Langevin sampler, and all distances.

    The distances have equal numbers of images, and are not extrapolated.
    """
    found, law = {}, references("exact").law
    for cell in choice():
        vectors, _ = stored_features(cell, folder, 0, cell.images(folder).images)
        found[cell.sampler, cell.setting] = float(frechet_distance(vectors, law, extrapolate=False).value)
    best = {name: min(TRIED, key=lambda h: found[name, h]) for name in LANGEVIN}
    return best, found


def everything(sizes: dict[str, float]) -> list[Cell]:
    """Return all cells in the order in which they run: the exact score first, then the network by importance."""
    found = []
    for score in SCORES:
        found += [*gain(score), *(cell for nfe in COSTS[score] for cell in cost(score, sizes, nfe))]
        found += [*eta(score), *level(score), *final(score)]
    return found


def dataset(folder: Path) -> xr.Dataset:
    """Return the numbers of all cells that are in the folder."""
    sizes, distances = sizes_of(folder)
    found = []
    for cell in everything(sizes):
        if stored(cell, folder):
            found.append(measured(cell, folder))
            print(cell.key, found[-1]["metrics"], flush=True)
    for score in SCORES:
        for at_one_level in (False, True):
            found += list(floors(score, at_one_level))
    names = (*QUALITY, *MIXING)
    values = np.array([[one["metrics"].get(name, (np.nan, np.nan)) for name in names] for one in found])
    coordinates: dict[str, Any] = {"metric": list(names)}
    for name in ("experiment", "score", "sampler", "setting"):
        coordinates[name] = ("cell", [getattr(one["cell"], name) for one in found])
    for name in ("nfe", "chains", "images", "seconds"):
        coordinates[name] = ("cell", [one[name] for one in found])
    data: dict[str, Any] = {name: (("cell", "metric"), values[..., i]) for i, name in enumerate(("value", "error"))}
    data["chosen_h"] = ("langevin", [sizes[name] for name in LANGEVIN])
    data["tried"] = (("langevin", "h"), [[distances[name, h] for h in TRIED] for name in LANGEVIN])
    coordinates |= {"langevin": list(LANGEVIN), "h": list(TRIED)}
    attributes = {"features": classifier().name, "identity": classifier().identity}
    return xr.Dataset(data, coordinates, attributes).merge(pictures(folder, sizes))


def pictures(folder: Path, sizes: dict[str, float]) -> xr.Dataset:
    """Return the images of the figures: chains of every eta, and samples beside their nearest training images."""
    data: dict[str, Any] = {}
    for score in SCORES:
        cells = [cell for cell in eta(score) if stored(cell, folder)]
        if cells:
            last = np.array([cell.images(folder).images[-1, :6] for cell in cells])
            data[f"eta_{score}"] = (("eta", "chain", "row", "column"), last)
        samples = next(cell for cell in cost(score, sizes, COSTS[score][1]) if cell.sampler == "BAOAB-limit")
        if stored(samples, folder):
            shown = samples.images(folder).images[0, :12]
            training = pixels(digits().train[: TRAINING if score == "exact" else None])
            near = nearest_rows(pixels(from_bytes(shown)), training)
            nearest = to_bytes(training[near].reshape(-1, 1, *shown.shape[1:]))
            data[f"nearest_{score}"] = (("pair", "image", "row", "column"), np.array([shown, nearest]))
    return xr.Dataset(data)


def main() -> None:
    """Run the cells that are not in the folder, and store the numbers."""
    folder, batches = Path(sys.argv[1]), int([*sys.argv, "1"][2])
    folder.mkdir(parents=True, exist_ok=True)
    sizes, _ = sizes_of(folder)
    for batch in range(batches):
        for cell in everything(sizes):
            cell.images(folder, batch)
    store(dataset(folder), DATA)


if __name__ == "__main__":
    main()
