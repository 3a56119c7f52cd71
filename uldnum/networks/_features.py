"""Features of images: maps of images to vectors, by which sets of images are compared."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import file_path, function, reals, result_of, shown, whole_number
from uldnum._util.names import digest, named, printable, unknown
from uldnum._util.typing import Array, ArrayLike
from uldnum.kernels.initial import initial_normals
from uldnum.networks.card import checked_card, keys_of, read_card
from uldnum.networks.images import check_like
from uldnum.networks.model import Device, Model, Node

__all__ = ["FEATURES", "FeatureCard", "Features", "features"]

# Name of the classifier that is part of the package, and its file.
DIGITS = "digits"
SHIPPED = Path(__file__).with_name("digits.onnx")

# Names of the features in 'uldnum list' and their descriptions.
FEATURES = {
    DIGITS: "64 features and 10 classes of a classifier of MNIST digits, which is part of this package",
    "pixels": "the values of all pixels",
    "projections": "64 random projections of the pixels, orthonormal and always the same",
}

# Number of images in one call of a map; the last call may have fewer. The number is a constant, so that the same images
# are always divided into the same calls and have the same rounding.
CHUNK = 256

# Number of projections, and the seed of their normals, which differs from the seeds of usual runs.
PROJECTIONS, SEED = 64, 2**63 + 1959


@dataclass(frozen=True)
class FeatureCard:
    """Metadata of a model that maps images to features.

    A card is a TOML file beside the model with the same stem, or a set of keys in the metadata of the model, with the
    prefix ``uldnum.``.

    Parameters
    ----------
    name : str
        Name of the features. Default: the stem of the file name.
    shape : tuple of int
        Channels, height and width of the images that the features accept. Each size must equal that in the model file,
        unless the file leaves the size open. Default: the shape in the model file.
    data_range : (float, float), optional
        Values of black and white that the model expects. Default: not checked.
    output : str
        Name of the output that holds the features. It is required if the model has several outputs, unless these are
        named "features" and "logits".
    source, licence, citation : str
        Origin, licence and citation of the model.

    Examples
    --------
    >>> from uldnum.networks import FeatureCard
    >>> FeatureCard(name="inception", shape=(3, 299, 299), data_range=(-1.0, 1.0)).shape
    (3, 299, 299)
    """

    name: str = ""
    shape: tuple[int, ...] = ()
    data_range: tuple[float, float] | None = None
    output: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""


# Features and classes of images; None instead of classes if the map has no classes.
Both = tuple[Array, Array | None]


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """A map of images to vectors, and possibly to classes.

    `features` returns objects of this class. They can be pickled if ``both`` can.

    Attributes
    ----------
    name : str
        Name of the features. It is part of the label of a metric: a Frechet distance of the features "digits" is
        FD(digits).
    both : callable
        Map of float32 images (n, channels, height, width) to features (n, f) and classes (n,), or None instead of
        classes. Use `features_and_classes`, which checks the images.
    shape : tuple of int or None
        Shape of an image that the map accepts, with None for a size that is open; None if every shape is accepted.
    data_range : (float, float), optional
        Values of black and white that the map expects; None if every range is accepted.
    identity : str
        Hash of the model, or the name of the features "pixels" and "projections"; empty for a function.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.networks import features
    >>> pixels = features("pixels")
    >>> pixels.name, pixels(np.zeros((2, 1, 4, 4), np.float32)).shape
    ('pixels', (2, 16))
    """

    name: str
    both: Callable[[Array], Both]
    shape: tuple[int | None, ...] | None = None
    data_range: tuple[float, float] | None = None
    identity: str = ""

    def __repr__(self) -> str:
        """Return the name of the features and, if it is known, the shape of an image."""
        return named(self) if self.shape is not None else f"Features({self.name!r})"

    def __call__(self, images: ArrayLike) -> Array:
        """Return the features of images.

        Parameters
        ----------
        images : array, shape (n, channels, height, width)
            Images with values in the data range.

        Returns
        -------
        float64 array, shape (n, f)
            Features.

        Raises
        ------
        ValueError
            If the shape is wrong, values are not finite or are far out of the data range, or the map fails.
        """
        return self.features_and_classes(images)[0]

    def classes(self, images: ArrayLike) -> Array | None:
        """Return the most probable class of each image, int64, shape (n,); None if the features have no classes.

        Parameters
        ----------
        images : array, shape (n, channels, height, width)
            Images with values in the data range.
        """
        return self.features_and_classes(images)[1]

    def features_and_classes(self, images: ArrayLike) -> tuple[Array, Array | None]:
        """Return the features and the classes of images, which are computed together.

        Parameters
        ----------
        images : array, shape (n, channels, height, width)
            Images with values in the data range.

        Returns
        -------
        features : float64 array, shape (n, f)
        classes : int64 array, shape (n,), or None if the features have no classes

        Raises
        ------
        ValueError
            If the shape is wrong, values are not finite or are far out of the data range, or the map fails.
        """
        given = self.checked(images)
        parts = [self.checked_answer(given[first : first + CHUNK]) for first in range(0, len(given), CHUNK)]
        values = np.concatenate([part for part, _ in parts])
        return values, None if parts[0][1] is None else np.concatenate([part for _, part in parts])

    def checked(self, images: ArrayLike) -> Array:
        """Return images as float32, or raise."""
        given = reals("images", images)
        if given.ndim != 4 or not given.size:
            raise ValueError(f"images: must have shape (n, channels, height, width), got {given.shape}")
        self.check_like(given.shape[1:])
        if bad := int((~np.isfinite(given)).any(axis=(1, 2, 3)).sum()):
            raise ValueError(f"images: must be finite, got {bad} of {len(given)} images with non-finite values")
        if self.data_range is not None:
            low, high = self.data_range
            if given.min() < 2 * low - high or given.max() > 2 * high - low:
                raise ValueError(
                    f"images: must have values from about {low:g} to {high:g} for the features {self.name}, got "
                    f"{given.min():.4g} to {given.max():.4g}"
                )
        return given.astype(np.float32)

    def checked_answer(self, images: Array) -> Both:
        """Return features and classes of one chunk, or raise if the features are not finite vectors."""
        found, classes = self.both(images)
        if found.ndim != 2 or len(found) != len(images) or not found.shape[1]:
            raise ValueError(
                f"features: {self.name} must return one vector for each of {len(images)} images, got shape "
                f"{found.shape}"
            )
        if not np.isfinite(found).all():
            raise ValueError(f"features: {self.name} returned non-finite values")
        return found, classes

    def check_like(self, shape: tuple[int, ...], data_range: tuple[float, float] | None = None) -> None:
        """Raise an error if the features do not accept images of a shape and a range.

        Parameters
        ----------
        shape : tuple of int
            Channels, height and width.
        data_range : (float, float), optional
            Values of black and white. Default: not checked.

        Raises
        ------
        ValueError
            If the shape or the range does not fit.
        """
        check_like(f"features: the images of {self.name}", self.shape, self.data_range, shape, data_range)

    def size(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of images of a shape."""
        return int(self.probed(shape).shape[1])

    def fingerprint(self, shape: tuple[int, ...]) -> str:
        """Return a hash that identifies the features of images of a shape.

        For a function, it is a hash of the values at fixed images, rounded to six digits.
        """
        if self.identity:
            return hashlib.sha256(f"{self.name} {self.identity} {shape}".encode()).hexdigest()[:16]
        values = self.probed(shape)
        return digest(np.round(values / max(np.abs(values).max(), np.finfo(float).tiny), 6))

    def probed(self, shape: tuple[int, ...]) -> Array:
        """Return the features of eight fixed images of a shape."""
        low, high = self.data_range or (-1.0, 1.0)
        images = np.tanh(initial_normals(8, SEED, 0, 0, math.prod(shape)))
        return self((low + high) / 2 + (high - low) / 2 * images.reshape(-1, *shape))


def features(
    source: str | Path | Features | Callable[[Array], ArrayLike] = DIGITS,
    card: Mapping[str, Any] | None = None,
    *,
    threads: int | None = None,
) -> Features:
    r"""Return a map of images to features.

    Parameters
    ----------
    source : str, Path, callable or Features
        One of

        * "digits": the features and classes of a classifier of MNIST digits, which is part of this package;
        * "pixels": the values of all pixels;
        * "projections": 64 random projections of the pixels, or as many as there are pixels if there are fewer. The
          projections are orthonormal and the same for all images of one size;
        * an ONNX file that maps images (n, channels, height, width) to vectors (n, f). A second output with classes is
          used if the outputs have the names "features" and "logits";
        * a function that maps float32 images (n, channels, height, width) to vectors (n, f). It must treat each image
          independently, because it is called with at most 256 images at a time.
    card : mapping, optional
        Keys of the card of a model (`FeatureCard`), which replace those of the file.
    threads : int, optional
        Number of threads for a model. Default: the number of cores available to this process.

    Returns
    -------
    Features

    Raises
    ------
    ValueError
        If the name is unknown, the file cannot be used, or the model has several outputs and the card names none.
    MissingExtraError
        If a model is given and ONNX Runtime is not installed.

    Notes
    -----
    A Frechet distance is comparable only with distances that use the same features. FID is the Frechet distance of the
    2048 features of Inception v3, which are the outputs of its last block, averaged over positions. The weights are
    those of Heusel et al. (``pt_inception-2015-12-05``). The images are RGB with 8 bits, resized to
    299 x 299 pixels by bilinear interpolation, and scaled to [-1, 1]. A single channel is repeated three times. A model
    or a function that does the same gives FID. A Frechet distance of other features is called FD with their name.

    The features "digits" are standardised: each has mean 0 and variance 1 over the training digits. "projections" are
    coordinates in a random subspace, so that their Frechet distance is at most that of "pixels".

    The features of an image do not depend on the other images, except for rounding.

    References
    ----------
    Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter (2017), "GANs trained by a two time-scale update rule converge
    to a local Nash equilibrium", section 4. Parmar, Zhang & Zhu (2022), "On aliased resizing and surprising subtleties
    in GAN evaluation", on the interpolation.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.networks import features
    >>> images = np.linspace(-1, 1, 2 * 784).reshape(2, 1, 28, 28)
    >>> features("digits")(images).shape, features("digits").classes(images).shape
    ((2, 64), (2,))
    >>> features(lambda images: images.mean(axis=(2, 3)))(images).round(3).tolist()
    [[-0.5], [0.5]]
    """
    if isinstance(source, Features):
        return source
    given = checked_card(card)
    count = None if threads is None else whole_number("threads", threads, 1, 2**16)
    if not isinstance(source, str | Path):
        call = function("features", source)
        return Features(printable(getattr(call, "__name__", type(call).__name__)), Function(call))
    name = str(source).lower()
    if name in MAPS:
        return Features(name, MAPS[name], identity=name)
    path = SHIPPED if name == DIGITS else file_path("features", source)
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise ValueError(f"features: no such file: {shown(str(path))}")
        return of_model(path, given, count)
    where = f"The features are {', '.join(FEATURES)}, an ONNX file that ends in .onnx, or a function"
    raise unknown("features", str(source), FEATURES, where)


def of_model(path: Path, given: dict[str, Any], threads: int | None) -> Features:
    """Return the features of an ONNX model."""
    model = Model(path, Device(), threads)
    keys = {"name": printable(path.stem)} | read_card(path, model.metadata) | given
    image, outputs = roles(model, str(keys.get("output", "")))
    card = FeatureCard(**keys_of(keys, shown(path.name), FeatureCard))
    check_like(f"features: the images of {card.name}", image.shape[1:], None, card.shape or image.shape[1:], None)
    both = ModelMap(model, path.absolute(), tuple(node.name for node in outputs), threads)
    return Features(card.name, both, card.shape or image.shape[1:], card.data_range, model.digest)


def roles(model: Model, named: str) -> tuple[Node, tuple[Node, ...]]:
    """Return the input of a model and the tuple of its outputs: the features, then the logits if there are any.

    ``named`` is the name of the output to use, or empty. An error is raised if inputs or outputs do not fit.
    """
    inputs, outputs = model.inputs, {node.name: node for node in model.outputs}
    if len(inputs) != 1 or not inputs[0].real or len(inputs[0].shape) != 4:
        raise ValueError(
            "features: the model must have one input, floating-point images with four axes, got "
            f"{'; '.join(node.described for node in inputs)}"
        )
    chosen = (named,) if named else ("features", "logits") if set(outputs) == {"features", "logits"} else tuple(outputs)
    if not set(chosen) <= set(outputs) or (len(chosen) > 1 and chosen != ("features", "logits")):
        raise ValueError(
            "features: the model must have one output, or the outputs features and logits, got "
            f"{'; '.join(node.described for node in model.outputs)}; name one of them in its card, output = 'NAME' "
            "(in Python card={'output': 'NAME'})"
        )
    found = tuple(outputs[name] for name in chosen)
    for node in found:
        if not node.real or len(node.shape) < 2 or any(size != 1 for size in node.shape[2:]):
            raise ValueError(f"features: the model must map images to vectors, got the output {node.described}")
    return inputs[0], found


# ---------------------------------------------------------------------------------------------------------------- maps


@dataclass(frozen=True)
class Function:
    """A function as a map without classes."""

    call: Callable[[Array], ArrayLike]

    def __call__(self, images: Array) -> Both:
        """Return the result of the function as float64."""
        return result_of("features", self.call, images), None


@dataclass(frozen=True)
class ModelMap:
    """An ONNX model as a map, which opens the model file again when it is unpickled."""

    model: Model
    path: Path
    outputs: tuple[str, ...]
    threads: int | None

    def __reduce__(self) -> tuple[Any, ...]:
        return model_map, (self.path, self.outputs, self.threads)

    def __call__(self, images: Array) -> Both:
        """Return the first output, and the indices of the largest entries of the second one."""
        image = self.model.inputs[0]
        rows = image.shape[0] or len(images)
        parts = [self.answers(images[first : first + rows], image, rows) for first in range(0, len(images), rows)]
        found = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return found[0].astype(float), found[1].argmax(axis=1) if len(found) > 1 else None

    def answers(self, images: Array, image: Node, rows: int) -> list[Array]:
        """Return the outputs for one call, whose images are padded to a fixed number of rows."""
        padded = np.zeros((rows, *images.shape[1:]), image.dtype)
        padded[: len(images)] = images
        answers = self.model.answers({image.name: padded}, self.outputs)
        return [answer.reshape(len(answer), -1)[: len(images)] for answer in answers]


def model_map(path: Path, outputs: tuple[str, ...], threads: int | None) -> ModelMap:
    """Open a model and return its map, for `ModelMap.__reduce__`."""
    return ModelMap(Model(path, Device(), threads), path, outputs, threads)


def pixels(images: Array) -> Both:
    """Return the pixels as vectors."""
    return images.reshape(len(images), -1).astype(float), None


def projections(images: Array) -> Both:
    """Return the projections of the pixels."""
    values, _ = pixels(images)
    return values @ directions(values.shape[1]), None


@cache
def directions(size: int) -> Array:
    """Return orthonormal random directions as columns, shape (size, PROJECTIONS), or (size, size) if that is smaller.

    They are the columns of Q in the QR decomposition of a matrix of normals, where R has a positive diagonal.
    """
    normals = initial_normals(min(PROJECTIONS, size), SEED, 0, 0, size).T
    q, r = np.linalg.qr(normals)
    return np.asarray(q * np.sign(np.diagonal(r)))


MAPS: dict[str, Callable[[Array], Both]] = {"pixels": pixels, "projections": projections}
