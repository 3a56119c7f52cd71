"""Score networks as targets.

A `Network` is a model with its card. A `NetworkLevel` is the score of a network at one noise level, which is a target.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import file_path, flag, reals, shown, whole_number
from uldnum._util.arraylib import host
from uldnum._util.names import printable
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.dense import total
from uldnum.arithmetic.elementary import hypot
from uldnum.kernels.initial import initial_normals
from uldnum.networks.card import LARGEST, Card, Level, card_of, checked_card
from uldnum.networks.conditions import Conditions, named_arrays
from uldnum.networks.decoder import Decoder, Latents
from uldnum.networks.function import Function
from uldnum.networks.model import Device, Model
from uldnum.plans.levels import Levels
from uldnum.schemes.form import Form
from uldnum.schemes.predictors import NoiseLevel
from uldnum.targets.noised import NoisedImages, combined
from uldnum.targets.protocol import Display, Law

__all__ = ["Network", "NetworkLevel"]

# Default of the maximum number of images in one call of the network: as many as have VALUES values, but at least CHUNK.
CHUNK, VALUES = 64, 2**15

# Relative difference up to which two ratios sigma/alpha are the same noise level.
SAME = 1e-6

# Maximum number of values in one call of a model with a fixed batch size: 4 GiB in float32.
MOST = 2**30


class Network(Law):
    """A network that approximates the score of noised images at many noise levels.

    Parameters
    ----------
    source : Path, str or callable
        The ONNX model, or a function: a PyTorch module, or any function of arrays of NumPy, PyTorch, JAX or CuPy.
        ``source(z, condition, **inputs)`` returns the output of the network. ``z`` has the shape ``(n, *shape)``.
        ``condition`` has the shape ``(n,)``. It is an integer array for the conditions "timestep" and "index", it is
        float32 for a function in half precision, and it is absent for the condition "none". Of several outputs, the
        first one is used, or the one that the key ``output`` of the card names.
    card : mapping or Card, optional
        Keys of the card (`Card`). They take precedence over the TOML file beside the model and over the metadata of the
        model.
    like : array, optional
        Example of the arrays that a function accepts. It determines the array library, the device and the
        floating-point type of z. If it has more than one axis and the card has no shape, it also determines the shape
        of an image, ``like.shape[1:]``. Default: a parameter of the PyTorch module, or a float32 array of NumPy.
    device : "cpu" or "cuda"
        Device of an ONNX model. On "cuda" the score accepts and returns CuPy arrays. It runs on the CUDA stream that is
        current when the network is opened. Default: "cpu".
    inputs : mapping of arrays, optional
        Arrays for the model's inputs other than image and noise level, such as a class or an embedded text, by the
        names of the inputs. The n rows of an array are repeated over the chains: chain i has row ``i % n``, also in a
        run that starts at another chain (``first_chain``). A number stands for one row. For an ONNX model the name
        "class" stands for the one input that holds a whole number for each image, the class, whatever its name in the
        model. A function receives the arrays as keyword arguments with one row for each image.
    unconditional : mapping of arrays, optional
        Values of the same inputs without the condition, for guidance.
    guidance : float
        Weight w of classifier-free guidance. The output is N_0 + w (N_c - N_0), where N_c is the output with the
        condition and N_0 is the output without it. One call evaluates both. Default: 1, which means no guidance.
    clip : bool
        Clip the denoised image to the range of the data in every evaluation. The clipped score is in general not the
        gradient of a log density. Default: False.
    chunk : int, optional
        Maximum number of images in one call. With guidance, each image counts twice. The memory of a call is
        proportional to ``chunk``. A model with a fixed batch size ignores ``chunk``. Random numbers do not depend on
        ``chunk``. States depend on ``chunk`` only through rounding in the network. Default: 64, or for images of fewer
        than 512 values as many as have 2^15 values: 16384 vectors of two values.
    threads : int, optional
        Number of threads of an ONNX model on the CPU. Default: the number of cores available to this process.
    tf32 : bool
        Allow TensorFloat-32 in an ONNX model on a GPU, which rounds the factors of matrix products to 11 bits. Default:
        False.
    latents : Latents, optional
        Decoder of a latent diffusion model.

    Attributes
    ----------
    card : Card
        The metadata.
    shape : tuple of int
        Shape of one image: channels, height and width, or (d,) for vectors.

    Raises
    ------
    ValueError
        If a file cannot be used, the card is incomplete, or an argument does not fit the model.
    MissingExtraError
        If ONNX Runtime, or CuPy for a network on a GPU, is not installed.

    Warns
    -----
    UserWarning
        If a PyTorch module is in training mode.

    Notes
    -----
    A PyTorch module is called without gradients and without autocast. `torch.compile` may be applied to it before. If
    the function runs on an NVIDIA GPU, chains are CuPy arrays, which share memory with the arrays of the function, and
    the backend "cuda" supports images.

    A function has no hash. The fingerprint of a level, by which a stopped run is resumed and the results of a study are
    found, has three digits of averages over outputs of the function for 64 images, or for as few as have 2^12 values.
    The function is pickled with the network, for example for an ``executor``, so that it must not be a lambda then.

    References
    ----------
    Ho & Salimans (2022), "Classifier-free diffusion guidance", equation 6; its weight is ``guidance - 1``.

    Examples
    --------
    The exact score network of N(0, 4) in one dimension, which answers with the denoised position:

    >>> import numpy as np
    >>> import uldnum
    >>> def denoiser(z, sigma):
    ...     return 4 * z / (4 + sigma[:, None] ** 2)
    >>> card = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma", "shape": (1,)}
    >>> net = uldnum.networks.Network(denoiser, card)
    >>> net.at(1.0).score(np.array([[5.0]], np.float32)).tolist()
    [[-1.0]]
    """

    shape: tuple[int, ...]

    def __init__(
        self,
        source: Path | str | Callable[..., Any],
        card: Mapping[str, Any] | None = None,
        *,
        like: Any = None,
        device: str | None = None,
        inputs: Mapping[str, ArrayLike] | None = None,
        unconditional: Mapping[str, ArrayLike] | None = None,
        guidance: float = 1.0,
        clip: bool = False,
        chunk: int | None = None,
        threads: int | None = None,
        tf32: bool = False,
        latents: Latents | None = None,
    ) -> None:
        source, given = source if callable(source) else file_path("source", source).absolute(), checked_card(card)
        self.arguments: tuple[Any, Any, dict[str, Any]] = source, given, {
            "like": like, "device": device, "inputs": inputs, "unconditional": unconditional, "guidance": guidance,
            "clip": clip, "chunk": chunk, "threads": threads, "tf32": tf32, "latents": latents,
        }  # fmt: skip
        if callable(source):
            for name, value in (("device", device), ("threads", threads), ("tf32", tf32 or None)):
                if value is not None:
                    raise ValueError(f"{name}: must be left out for a function; it belongs to ONNX models")
            self.model: Model | Function = Function(source, like)
        else:
            if like is not None:
                raise ValueError(f"like: must be None for an ONNX model, got {shown(like)}")
            self.model = Model(source, Device("cpu" if device is None else device, tf32), threads)
        self.device = self.model.device
        self.card: Card = card_of({"name": printable(self.model.name)} | self.model.card | given, self.model.label)
        self.model.check_hash(self.card.sha256)
        self.roles = self.model.roles(self.card, named_arrays("inputs", inputs))
        self.channels_last = self.card.channels_last or self.roles.image.channels_last
        self.shape = self.image_shape()
        self.check_condition()
        self.conditions = Conditions.of(self.roles.others, self.device, inputs, unconditional, guidance)
        most = max(CHUNK, VALUES // math.prod(self.shape)) if chunk is None else whole_number("chunk", chunk, 1, 2**20)
        self.chunk = self.images_in_a_call(most)
        self.clip = flag("clip", clip)
        if self.clip and latents is not None:
            raise ValueError("clip: must be False for a network of latents, whose range is unbounded")
        if not (latents is None or isinstance(latents, Latents)):
            raise ValueError(f"latents: must be Latents, got {shown(latents)}")
        self.decoder = None if latents is None else Decoder(latents, self.shape[0], threads)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of the network. The process that loads it opens the files of the model anew."""
        path, card, options = self.arguments
        return partial(type(self), **options), (path, card)

    def changed(self, **attributes: Any) -> Network:
        """Return a network that shares everything with this one but the given attributes."""
        found = object.__new__(type(self))
        vars(found).update(vars(self) | attributes)
        return found

    def on_gpu(self, number: int, copies: dict[Any, Any]) -> Network:
        """Return the network on CuPy's current GPU, which has a given number; see `uldnum.targets.Target.on_gpu`."""
        if number == self.device.number:
            return self
        if self not in copies:
            model = self.model.on_gpu(number)
            copies[self] = self.changed(model=model, device=model.device, conditions=self.conditions.copied())
        return copies[self]

    @property
    def name(self) -> str:
        """Name of the network, from its card."""
        return self.card.name

    @property
    def data_range(self) -> tuple[float, float]:
        """Values of black and white, from the card."""
        return self.card.data_range

    @property
    def support(self) -> tuple[float, float] | None:
        """Range of the values of images, from the card. It is None for vectors and latents, which have no range."""
        return self.data_range if self.decoder is None and len(self.shape) == 3 else None

    @property
    def display(self) -> Display:
        """How images are drawn, from the card."""
        return Display(self.card.display or self.card.data_range, self.card.gamma, self.card.colours)

    def image_shape(self) -> tuple[int, ...]:
        """Return the shape of one image. Sizes that the model leaves open come from the card."""
        fixed = self.channels_first(self.roles.image.shape[1:])
        shape = self.card.shape or fixed
        if (
            None in shape
            or len(shape) != len(fixed)
            or any(size not in (None, asked) for size, asked in zip(fixed, shape, strict=True))
        ):
            wanted = "[channels,height,width]" if len(fixed) == 3 else f"[{','.join('d' * len(fixed))}]"
            raise ValueError(
                f"network: the shape of an image must be known and fit the model, got "
                f"{self.roles.image.described}; give --set shape={wanted} (in Python card={{'shape': ...}})"
            )
        known = tuple(int(size) for size in shape)  # type: ignore[arg-type]
        if math.prod(known) > LARGEST:
            raise ValueError(f"network: an image must have at most {LARGEST} values, got shape {known}")
        self.check_output(self.channels_first(self.roles.output.shape[1:]), known)
        return known

    def channels_first(self, sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return sizes of the axes of the model in the order of `shape`."""
        return (*sizes[-1:], *sizes[:-1]) if self.channels_last else sizes

    def check_output(self, sizes: tuple[int | None, ...], shape: tuple[int, ...]) -> None:
        """Raise an error if the sizes of the axes of the output do not fit the shape of an image."""

        def fits(wanted: tuple[int, ...]) -> bool:
            return all(size in (None, asked) for size, asked in zip(sizes, wanted, strict=True))

        if not fits(wanted := self.card.output_shape(shape)):
            remedy = ""
            if not self.card.learned_variance and fits((2 * shape[0], *shape[1:])):
                remedy = (
                    "; if half of its channels describe a variance, give --set learned_variance=true (in Python "
                    "card={'learned_variance': True})"
                )
            raise ValueError(f"network: its output must have shape {wanted}, got {self.roles.output.described}{remedy}")

    def check_condition(self) -> None:
        """Round timesteps if the noise-level input is an integer. Raise an error if the condition is no timestep."""
        node = self.roles.condition
        if node is None or node.real:
            return
        if self.card.condition == "interpolated-timestep":
            self.card = replace(self.card, condition="timestep")
        if not self.card.whole:
            raise ValueError(
                f"condition: must be 'timestep' or 'index' for a model with an integer noise-level input "
                f"({node.described}), got {self.card.condition!r}"
            )

    def images_in_a_call(self, most: int) -> int:
        """Return the maximum number of images in a call, or the exact number if the model has a fixed batch size."""
        fixed, copies = self.roles.image.shape[0], self.conditions.copies
        if fixed is not None and fixed * math.prod(self.shape) > MOST:
            raise ValueError(f"network: the images of a call must have at most {MOST} values, got {fixed} images")
        if fixed is None:
            return max(1, most // copies)
        if fixed % copies:
            raise ValueError(
                f"guidance: needs two rows for each image, but the model has a fixed batch size of {fixed}"
            )
        return fixed // copies

    def at(self, sigma: float | None = None, *, ratio: float | None = None, t: float | None = None) -> NetworkLevel:
        """Return the score at one noise level, as a target for `uldnum.sample`.

        Parameters
        ----------
        sigma : float, optional
            Sigma of z = alpha x + sigma eps, in units of the image. If ``ratio`` and ``t`` are absent too, the default
            is ``sigma`` of the card.
        ratio : float, optional
            The ratio sigma/alpha.
        t : float, optional
            Time of the network's schedule.

        Returns
        -------
        NetworkLevel
            The score at this noise level. If the network has integer timesteps, it is the score at the nearest
            timestep, and ``sigma`` of the result is the exact value at that timestep.

        Raises
        ------
        ValueError
            If more than one argument is given, or the network was not trained for this noise level.
        """
        return self.target(self.card.level(sigma, ratio, t))

    def target(self, level: Level) -> NetworkLevel:
        """Return the score at a noise level as a target."""
        name = f"{self.name} at sigma {level.sigma:.4g}"
        return NetworkLevel(name, self.shape, level.alpha, level.sigma, self, level)

    def noised(self, alpha: float, sigma: float) -> NetworkLevel:
        """Return the distribution of ``z = alpha x + sigma eps`` as a target.

        Parameters
        ----------
        alpha, sigma : float
            Coefficients of z. If they differ from those of the network at the same sigma/alpha, the score of the
            network is rescaled.

        Returns
        -------
        NetworkLevel

        Raises
        ------
        ValueError
            If the network does not support this sigma/alpha.
        """
        ratio = float(NoiseLevel(alpha, sigma).r)
        level = self.target(self.known_level(ratio))
        found = float(NoiseLevel(level.alpha, level.sigma).r)
        if not math.isclose(found, ratio, rel_tol=SAME):
            raise ValueError(
                f"levels: {self.name} supports only integer timesteps, and the nearest one to sigma/alpha = "
                f"{ratio:.6g} has sigma/alpha = {found:.6g}; use uldnum.plan(..., net.nearest(levels)), or "
                "card={'condition': 'interpolated-timestep'} for a plan with churn"
            )
        if math.isclose(level.sigma, sigma, rel_tol=1e-9):
            return level
        return self.target(level.level.rescaled(alpha, sigma))

    def known_level(self, ratio: float) -> Level:
        """Return the noise level at sigma/alpha = ratio, or raise an error in terms of the levels of a plan."""
        try:
            return self.card.level(ratio=ratio)
        except ValueError as error:
            fault = str(error).removeprefix("sigma-ratio: ")
            raise ValueError(f"levels: {fault} (level with sigma/alpha = {ratio:.6g})") from None

    @property
    def time(self) -> Callable[[float], float] | None:
        """Function that returns the time of the network's schedule at sigma/alpha; None if there is no schedule."""
        return self.time_at if self.card.schedule else None

    def time_at(self, ratio: float) -> float:
        """Return the time of the schedule at sigma/alpha = ratio, or the nearest step of the schedule."""
        return float(self.card.snapped(self.card.times.time(ratio)))

    def nearest(self, levels: Levels) -> Levels:
        """Return the nearest noise levels at which the network was trained.

        Parameters
        ----------
        levels : Levels
            Noise levels, in order of decreasing noise.

        Returns
        -------
        Levels
            The same levels, unless the network supports only integer timesteps. Then each level is replaced by that of
            the nearest timestep, with the same alpha and another sigma, or with alpha = 0 if alpha is 0 at the
            timestep. Levels with the same nearest timestep become one level.

        Raises
        ------
        ValueError
            If the network was not trained for one of the levels.

        Examples
        --------
        >>> import uldnum
        >>> net = uldnum.networks.network("ddpm.onnx")  # doctest: +SKIP
        >>> levels = uldnum.levels.karras(20.0, 0.02, 20)
        >>> plan = uldnum.plan("heun", net.nearest(levels))  # doctest: +SKIP
        """
        if not self.card.whole:
            return levels
        found = [self.known_level(ratio) for ratio in levels.ratio.tolist()]
        ratio: Array = NoiseLevel(np.array([one.alpha for one in found]), np.array([one.sigma for one in found])).r
        kept = np.append(True, ratio[1:] < ratio[:-1])
        if kept.all() and np.allclose(ratio, levels.ratio, rtol=SAME, atol=0):
            return levels
        pure = np.isinf(ratio)
        alpha, sigma = levels.alpha, np.where(pure, hypot(levels.alpha, levels.sigma), levels.alpha * ratio)
        return Levels(np.where(pure, 0.0, alpha)[kept], sigma[kept])

    def levels(self, count: int) -> Levels:
        """Return noise levels of the network's schedule, with the spacing of its card, the noisiest first.

        Parameters
        ----------
        count : int
            Number of levels.

        Returns
        -------
        Levels
            The levels. If the card has no spacing, they are evenly spaced in the time t. They span the part of the
            schedule between ``sigma_min`` and ``sigma_max`` of the card and, if the network predicts the score, epsilon
            or the noise, below sigma/alpha = 30. If sigma is 0 at one of its ends, the least noisy level is end/1000
            away from it. If the network supports only integer timesteps, all levels are at such timesteps.

        Raises
        ------
        ValueError
            If the network has no schedule, or fewer than ``count`` timesteps.
        """
        if not self.card.schedule:
            families = "flow" if self.card.scaling == "flow" else "karras or geometric"
            raise ValueError(f"levels: {self.name} has no schedule; use uldnum.levels.{families}")
        number = whole_number("count", count, 1, 2**20)
        t = self.card.spaced(number, self.shape)
        if (different := len(np.unique(t))) < number:
            raise ValueError(f"count: must be at most {different}, the number of timesteps, got {number}")
        found = [self.card.level(t=float(one)) for one in t]
        return Levels(np.array([level.alpha for level in found]), np.array([level.sigma for level in found]))

    def fingerprint(self, level: Level) -> str:
        """Return a hash of everything on which the score at a noise level depends."""
        settings = level, self.roles, self.shape, self.device, self.clip, self.chunk, self.card.data_range
        known = self.model.digest or self.digits(level)
        return hashlib.sha256(known.encode() + repr(settings).encode() + self.conditions.described).hexdigest()[:16]

    def digits(self, level: Level) -> str:
        """Return digits of averages over outputs at a noise level, which identify a network whose model has no hash."""
        size, before = math.prod(self.shape), self.model.images
        n = max(self.conditions.rows, min(CHUNK, -(-(2**12) // size)))
        x = initial_normals(n, 0, 0, 0, size).reshape(n, *self.shape)
        answer = host(self.evaluate(self.device.namespace.asarray(x), level.scale, level.condition))
        self.model.images = before
        parts = (float(total((answer * other).ravel())) / answer.size for other in (answer, x))
        return " ".join([self.model.name, *(f"{part:.3g}" for part in parts)])

    def evaluate(self, x: Any, scale: float, condition: float) -> Any:
        """Return the output of the network for the input ``scale * x``.

        Parameters
        ----------
        x : array, shape (n, *shape)
            Noised images.
        scale : float
            Scale c of the input.
        condition : float
            Value of the noise-level input.

        Returns
        -------
        array, shape (n, *shape), float32 or wider
        """
        answers = self.device.namespace.empty(x.shape, np.result_type(np.float32, self.roles.output.dtype))
        for first in range(0, len(x), self.chunk):
            self.call(x, slice(first, min(first + self.chunk, len(x))), scale, condition, answers)
        self.model.images += len(x)
        return answers

    def call(self, x: Any, part: slice, scale: float, condition: float, answers: Any) -> None:
        """Evaluate the images ``part`` with one call of the model, and write the output to ``answers``."""
        n, copies = part.stop - part.start, self.conditions.copies
        rows = n if self.roles.image.shape[0] is None else self.chunk  # rows beyond n are padding
        binding, buffers = self.model.buffers(self.shapes(rows * copies))
        image = buffers[self.roles.image.name]
        if self.channels_last:
            image = self.device.namespace.moveaxis(image, -1, 1)
        for copy in range(copies):
            self.device.namespace.multiply(x[part], scale, out=image[copy * rows : copy * rows + n], casting="unsafe")
        if self.roles.condition is not None:
            buffers[self.roles.condition.name][...] = condition
        self.conditions.fill(buffers, part, rows, len(x))
        self.model.run(binding)
        output = buffers[self.roles.output.name]
        if self.channels_last:
            output = self.device.namespace.moveaxis(output, -1, 1)
        answers[part] = self.conditions.guided(output[:, : self.shape[0]], rows, n, answers.dtype.type)

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all arrays of a call with ``batch`` rows, by the names of inputs and output."""
        parts = {self.roles.image.name: self.shape, self.roles.output.name: self.card.output_shape(self.shape)}
        last = {name: (*sizes[1:], sizes[0]) for name, sizes in parts.items()}
        shapes = {name: (batch, *sizes) for name, sizes in (last if self.channels_last else parts).items()}
        if self.roles.condition is not None:
            first, *rest = (*self.roles.condition.shape, 1)  # the appended 1 covers a scalar input
            sizes = (batch if first is None else first, *(1 if size is None else size for size in rest))
            shapes[self.roles.condition.name] = sizes[: len(self.roles.condition.shape)]
        return shapes | self.conditions.shapes(batch)

    def decode(self, x: Array) -> Array:
        """Return the images of denoised samples: decoded latents, or the samples themselves if there is no decoder.

        Parameters
        ----------
        x : array, shape (n, *shape)
            Denoised samples.

        Returns
        -------
        array, shape (n, channels, height, width)
        """
        return x if self.decoder is None else self.decoder(x)


@dataclass(frozen=True, eq=False, repr=False)
class NetworkLevel(NoisedImages):
    """A network at one noise level: the distribution of ``z = alpha x + sigma eps`` as a target.

    Attributes
    ----------
    alpha, sigma : float
        Coefficients of z.
    shape : tuple of int
        Shape of one image: channels, height and width, or (d,) for vectors.
    network : Network
        The network.
    level : Level
        The noise level, with the coefficients of the score.

    Notes
    -----
    Chains start from N(alpha m, alpha^2 r^2 + sigma^2), where [m - r, m + r] is the range of the data. For data in
    [-1, 1] this distribution is N(0, alpha^2 + sigma^2).

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> card = {"parameterisation": "epsilon", "scaling": "ve", "condition": "sigma", "shape": (1,)}
    >>> net = uldnum.networks.Network(lambda z, sigma: z / sigma[:, None], card)
    >>> level = net.at(2.0)
    >>> level.alpha, level.sigma, level.score(np.array([[2.0]], np.float32)).tolist()
    (1.0, 2.0, [[-0.5]])
    """

    network: Network
    level: Level

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the network and of the noise level."""
        return self.network.fingerprint(self.level)

    @cached_property
    def like(self) -> Any:
        """A CuPy array if the score needs CuPy arrays, otherwise None."""
        return None if self.network.device.name == "cpu" else self.network.device.namespace.zeros(1, np.float32)

    @property
    def on_gpu(self) -> Callable[[int, dict[Any, Any]], NetworkLevel] | None:
        """Function that returns the level of a copy of the network on a GPU; None if the network cannot be copied."""
        return self.placed if self.network.model.copyable else None

    def placed(self, number: int, copies: dict[Any, Any]) -> NetworkLevel:
        """Return the level of a copy of the network on a GPU."""
        return replace(self, network=self.network.on_gpu(number, copies))

    @property
    def chunk(self) -> int:
        """Maximum number of images in one call of the network."""
        return self.network.chunk

    def of_chains(self, first: int, count: int) -> NetworkLevel:
        """Return the level of a network with the inputs of chains first ... first + count - 1."""
        conditions = self.network.conditions
        if conditions.rows <= (1 if first else count):
            return self
        return replace(self, network=self.network.changed(conditions=conditions.of_chains(first, count)))

    @property
    def mean(self) -> Array:
        """Mean of the initial distribution, with the shape of an image."""
        return np.full(self.shape, self.alpha * sum(self.network.card.data_range) / 2)

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of the initial distribution, with the shape of an image."""
        low, high = self.network.card.data_range
        return np.full(self.shape, hypot(self.alpha * (high - low) / 2, self.sigma))

    @cached_property
    def form(self) -> Form:
        """Affine maps from z and the answer to the image, the noise and the score."""
        return Form.of_image(self.alpha, self.sigma) if self.network.clip else self.level.form

    def images(self, x: Any) -> Any:
        """Return x as an array of the library and a type that `answer` accepts, or raise an error.

        Raises
        ------
        ValueError
            If the shape is wrong.
        """
        if self.network.device.name == "cpu" and not (isinstance(x, np.ndarray) and x.dtype.kind == "f"):
            x = reals("x", x)
        x = self.network.device.namespace.asarray(x)
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: images must have shape (n, {', '.join(map(str, self.shape))}), got {x.shape}")
        return x

    def answer(self, x: Any) -> Any:
        """Return the output of the network, or the clipped image if the network has the option ``clip``.

        Parameters
        ----------
        x : array, shape (n, *shape)
            Values of z.

        Returns
        -------
        array, shape (n, *shape)
            Float32, or the type of the output of the network if that is wider.

        Raises
        ------
        ValueError
            If the shape is wrong, or if the network returns non-finite values for an image within 100 standard
            deviations of the mean of the initial distribution.
        """
        x = self.images(x)
        answer = self.network.evaluate(x, self.level.scale, self.level.condition)
        self.check(x, answer)
        if not self.network.clip:
            return answer
        return combined(self.level.form.image, x, answer).clip(*self.network.card.data_range)

    def check(self, x: Any, answer: Any) -> None:
        """Raise an error if outputs are non-finite, except for chains that have already diverged."""
        xp = self.network.device.namespace
        if bool(xp.isfinite(answer).all()):
            return
        axes = tuple(range(1, x.ndim))
        centre, reach = xp.asarray(self.mean), xp.asarray(100 * self.standard_deviation)
        bad = (abs(x - centre) < reach).all(axis=axes) & ~xp.isfinite(answer).all(axis=axes)
        if bool(bad.any()):
            raise ValueError(
                f"network: {self.network.name} returned non-finite values at sigma = {self.sigma:.4g}, for "
                f"{int(bad.sum())} of {len(x)} images"
            )
