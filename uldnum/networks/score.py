"""Image score networks as targets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import file_path, flag, reals, shown, whole_number
from uldnum._util.names import printable
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.elementary import hypot
from uldnum.networks.card import LARGEST, Card, Level, card_of, checked_card, read_card
from uldnum.networks.conditions import Conditions
from uldnum.networks.decoder import Decoder, Latents
from uldnum.networks.model import Device, Model, Roles
from uldnum.plans.levels import Levels
from uldnum.targets.noised import NoisedImages
from uldnum.targets.protocol import Law

__all__ = ["Network", "NetworkLevel"]

# Images that the network is called with at once, at most, unless another number is asked for.
CHUNK = 64

# Values of all images of a call that a model fixes, at most: 4 GiB in float32.
MOST = 2**30


class Network(Law):
    """A network that knows the score of noised images at many noise levels.

    Parameters
    ----------
    path : Path
        The ONNX model.
    card : mapping
        Keys of its card (`Card`), over those of the file's metadata and of the TOML file beside it.
    device : "cpu" or "cuda"
        Where it runs; on "cuda" the score takes and returns CuPy arrays, on the stream that is current now.
    inputs : mapping of arrays
        What else the model takes, by the names of its inputs: a class, an embedded text. The first axis is 1, or the
        number of chains.
    unconditional : mapping of arrays
        The same without the condition, for guidance.
    guidance : float
        Weight w of classifier-free guidance, N = N_0 + w (N_c - N_0), both from one call (Ho & Salimans 2022, eq. 6,
        whose w is this one less 1). 1 is none.
    clip : bool
        Clip the denoised image to the range of the data. The score is then no longer that of any density.
    chunk : int
        Images in one call, at most, with guidance counted twice: what a call needs of memory grows with it. Normals do
        not depend on it; states do, through the rounding of the network alone.
    threads : int, optional
        Threads on the CPU. Default: the cores that this process may use.
    tf32 : bool
        Let a GPU round the factors of matrix products to eleven bits.
    latents : Latents, optional
        How samples become images, where they are latents.

    Raises
    ------
    ValueError
        If a file cannot be used, the card does not say enough, or an argument does not fit the model.
    MissingExtraError
        If ONNX Runtime, or CuPy for "cuda", is not installed.
    """

    shape: tuple[int, ...]

    def __init__(
        self,
        path: Path | str,
        card: Mapping[str, Any] | None = None,
        *,
        device: str = "cpu",
        inputs: Mapping[str, ArrayLike] | None = None,
        unconditional: Mapping[str, ArrayLike] | None = None,
        guidance: float = 1.0,
        clip: bool = False,
        chunk: int = CHUNK,
        threads: int | None = None,
        tf32: bool = False,
        latents: Latents | None = None,
    ) -> None:
        path, given = file_path("path", path), checked_card(card)
        threads = None if threads is None else whole_number("threads", threads, 1, 2**16)
        self.device = Device(device, tf32)
        self.model = Model(path, self.device, threads)
        self.card: Card = card_of(
            {"name": printable(path.stem)} | read_card(path, self.model.metadata) | given, shown(path.name)
        )
        wanted = self.card.sha256.lower()
        if wanted and wanted != hashlib.sha256(path.read_bytes()).hexdigest():
            raise ValueError(
                f"network: {printable(str(path))} is not the file that its card describes: its sha256 differs"
            )
        self.roles = Roles.of(self.model.inputs, self.model.outputs, self.card)
        self.shape = self.image_shape()
        self.check_condition()
        self.conditions = Conditions.of(self.roles.others, self.device, inputs, unconditional, guidance)
        self.chunk = self.images_in_a_call(whole_number("chunk", chunk, 1, 2**20))
        self.clip = flag("clip", clip)
        if self.clip and latents is not None:
            raise ValueError("clip: the samples of this network are latents, which have no range")
        if not (latents is None or isinstance(latents, Latents)):
            raise ValueError(f"latents: must be Latents, got {shown(latents)}")
        self.decoder = None if latents is None else Decoder(latents, self.shape[0], threads)
        self.images = 0  # that were evaluated so far

    @property
    def name(self) -> str:
        """What it is called in output."""
        return self.card.name

    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image: what the model fixes, and the card for the rest."""
        fixed = self.roles.image.shape[1:]
        shape = self.card.shape or fixed
        if None in shape or any(size not in (None, asked) for size, asked in zip(fixed, shape, strict=True)):
            raise ValueError(
                f"network: the shape of an image must be known and fit the model, which has "
                f"{self.roles.image.described}; give --set shape=[channels,height,width] "
                "(in Python card={'shape': ...})"
            )
        answer = self.roles.output.shape[1:]
        if any(size not in (None, asked) for size, asked in zip(answer, shape, strict=True)):
            raise ValueError(f"network: it must answer images of shape {shape}; it has {self.roles.output.described}")
        known = tuple(int(size) for size in shape)  # type: ignore[arg-type]
        if math.prod(known) > LARGEST:
            raise ValueError(f"network: an image must have at most {LARGEST} values, it has shape {known}")
        return known

    def check_condition(self) -> None:
        """Raise if the model takes whole numbers where the card's are not whole."""
        node = self.roles.condition
        if node is not None and not node.real and self.card.condition != "timestep":
            raise ValueError(
                f"condition: the model takes whole numbers ({node.described}), which condition "
                f"{self.card.condition!r} does not give; 'timestep' does"
            )

    def images_in_a_call(self, most: int) -> int:
        """Return how many images a call takes: so many at most, or as many as the model fixes."""
        fixed, copies = self.roles.image.shape[0], self.conditions.copies
        if fixed is not None and fixed * math.prod(self.shape) > MOST:
            raise ValueError(f"network: the model takes {fixed} images at once, of {MOST} values at most together")
        if fixed is None:
            return max(1, most // copies)
        if fixed % copies:
            raise ValueError(f"guidance: needs two rows for an image; the model is for {fixed} at once")
        return fixed // copies

    def at(self, sigma: float | None = None, *, ratio: float | None = None, t: float | None = None) -> NetworkLevel:
        """Return the network at one noise level, a target for `uldnum.sample`.

        Parameters
        ----------
        sigma : float
            Noise level of z = alpha x + sigma eps. Default: the card's.
        ratio : float
            The noise level as sigma/alpha instead.
        t : float
            ... as the t of the network's schedule.

        Raises
        ------
        ValueError
            If the network was not made for it. A network that knows whole timesteps only is taken at the nearest one,
            and the level says at which sigma that is.
        """
        level = self.card.level(sigma, ratio, t)
        name = f"{self.name} at sigma {level.sigma:.4g}"
        return NetworkLevel(name, self.fingerprint(level), self.shape, level.alpha, level.sigma, self, level)

    def noised(self, alpha: float, sigma: float) -> NoisedImages:
        """Return the law of ``z = alpha x + sigma eps``: the network at this sigma/alpha, perhaps in another scale.

        Raises
        ------
        ValueError
            If the network does not know this sigma/alpha.
        """
        try:
            level = self.at(ratio=sigma / alpha)
        except ValueError as error:
            raise ValueError(f"levels: at sigma/alpha = {sigma / alpha:.6g}: {error}") from None
        if not math.isclose(level.sigma / level.alpha, sigma / alpha, rel_tol=1e-6):
            raise ValueError(
                f"levels: {self.name} knows whole timesteps only, the nearest to sigma/alpha = {sigma / alpha:.6g} is "
                f"at {level.sigma / level.alpha:.6g}; give it card={{'condition': 'interpolated-timestep'}}, or its "
                "own levels"
            )
        return level if math.isclose(level.sigma, sigma, rel_tol=1e-9) else Rescaled.of(level, alpha, sigma)

    def levels(self, count: int) -> Levels:
        """Return noise levels that the network knows, evenly spaced in the t of its schedule, the noisiest first.

        Whole timesteps where it knows no others; the least noisy level is the first timestep, or t = end/1000 of a
        schedule that begins without noise.

        Raises
        ------
        ValueError
            If the network has no schedule, or not so many timesteps.
        """
        if not self.card.schedule:
            raise ValueError(f"levels: {self.name} has no schedule; take uldnum.levels.karras or geometric")
        times, number = self.card.times, whole_number("count", count, 1, 2**20)
        low, high = 0.0 if times.ratio(0.0) > 0 else times.end / 1000, times.end
        first, last = (low, high) if times.ratio(low) > times.ratio(high) else (high, low)
        t = np.linspace(first, last, number)
        if self.card.condition == "timestep":
            t = np.rint(t)
        if len(np.unique(t)) < number:
            raise ValueError(f"count: {self.name} has {times.end + 1:g} timesteps, got {number}")
        found = [self.card.level(t=float(one)) for one in t]
        return Levels(np.array([level.alpha for level in found]), np.array([level.sigma for level in found]))

    def fingerprint(self, level: Level) -> str:
        """Hash of everything that a score at a noise level is computed from."""
        settings = level, self.roles, self.shape, self.device, self.clip, self.chunk, self.card.data_range
        sha = hashlib.sha256(self.model.digest.encode() + repr(settings).encode() + self.conditions.described)
        return sha.hexdigest()[:16]

    def evaluate(self, x: Any, scale: float, condition: float) -> Any:
        """Return what the network answers to ``scale * x``, shape (n, *shape), in float32 at least."""
        answers = self.device.namespace.empty(x.shape, np.result_type(np.float32, self.roles.output.dtype))
        for first in range(0, len(x), self.chunk):
            self.call(x, slice(first, min(first + self.chunk, len(x))), scale, condition, answers)
        self.images += len(x)
        return answers

    def call(self, x: Any, part: slice, scale: float, condition: float, answers: Any) -> None:
        """Evaluate some of the images with one call of the model."""
        n, copies = part.stop - part.start, self.conditions.copies
        rows = n if self.roles.image.shape[0] is None else self.chunk  # what is more than n is padding
        binding, buffers = self.model.buffers(self.shapes(rows * copies))
        image = buffers[self.roles.image.name]
        for copy in range(copies):
            self.device.namespace.multiply(x[part], scale, out=image[copy * rows : copy * rows + n], casting="unsafe")
        if self.roles.condition is not None:
            buffers[self.roles.condition.name][...] = condition
        self.conditions.fill(buffers, part, rows, len(x))
        self.model.run(binding)
        answers[part] = self.conditions.guided(buffers[self.roles.output.name], rows, n, answers.dtype.type)

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all arrays of a call."""
        shapes = dict.fromkeys((self.roles.image.name, self.roles.output.name), (batch, *self.shape))
        if self.roles.condition is not None:
            first, *rest = (*self.roles.condition.shape, 1)  # of rank 0 too
            sizes = (batch if first is None else first, *(1 if size is None else size for size in rest))
            shapes[self.roles.condition.name] = sizes[: len(self.roles.condition.shape)]
        return shapes | self.conditions.shapes(batch)

    def decode(self, x: Array) -> Array:
        """Make images (n, channels, height, width) of denoised samples; where these are no latents, they are images."""
        return x if self.decoder is None else self.decoder(x)


@dataclass(frozen=True, eq=False, repr=False)
class NetworkLevel(NoisedImages):
    """A network at one noise level: the law of ``z = alpha x + sigma eps`` as a target.

    Chains start from N(alpha m, alpha^2 r^2 + sigma^2), where the data range from m - r to m + r: for data in [-1, 1]
    that is N(0, alpha^2 + sigma^2).
    """

    network: Network
    level: Level

    @cached_property
    def like(self) -> Any:
        """One of the arrays that the score takes: CuPy's on a GPU."""
        return None if self.network.device.name == "cpu" else self.network.device.namespace.zeros(1, np.float32)

    @property
    def mean(self) -> Array:
        """Centre of where chains belong."""
        return np.full(self.shape, self.alpha * sum(self.network.card.data_range) / 2)

    @property
    def standard_deviation(self) -> Array:
        """Scale of where chains belong."""
        low, high = self.network.card.data_range
        return np.full(self.shape, hypot(self.alpha * (high - low) / 2, self.sigma))

    def score(self, x: Any) -> Any:
        """Gradient of the log density of z, (n, *shape) -> (n, *shape), in the type of x, float32 at least.

        Raises
        ------
        ValueError
            If the shape is wrong, or the network answers NaN to images where chains belong.
        """
        if self.network.device.name == "cpu" and not (isinstance(x, np.ndarray) and x.dtype.kind == "f"):
            x = reals("x", x)
        x = self.network.device.namespace.asarray(x)
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: images must have shape (n, {', '.join(map(str, self.shape))}), got {x.shape}")
        a, b, c = self.level.form
        answer = self.network.evaluate(x, c, self.level.condition)
        self.check(x, answer)
        real = np.result_type(x.dtype, np.float32).type
        score = answer * real(b)
        if a:
            score += real(a) * x
        return self.clipped(x, score) if self.network.clip else score

    def clipped(self, x: Any, score: Any) -> Any:
        """Return the score of which the denoised image lies in the range of the data."""
        image = (x + self.sigma * self.sigma * score) / self.alpha
        return (self.alpha * image.clip(*self.network.card.data_range) - x) / (self.sigma * self.sigma)

    def check(self, x: Any, answer: Any) -> None:
        """Raise if there are numbers among the answers that are none, but for chains that ran away before."""
        xp = self.network.device.namespace
        if bool(xp.isfinite(answer).all()):
            return
        axes = tuple(range(1, x.ndim))
        centre, reach = xp.asarray(self.mean), xp.asarray(100 * self.standard_deviation)
        bad = (abs(x - centre) < reach).all(axis=axes) & ~xp.isfinite(answer).all(axis=axes)
        if bool(bad.any()):
            raise ValueError(
                f"network: {self.network.name} answers numbers that are not finite at sigma = {self.sigma:.4g}, to "
                f"{int(bad.sum())} of {len(x)} images that are"
            )


@dataclass(frozen=True, eq=False, repr=False)
class Rescaled(NoisedImages):
    """A network's level in another scale: the law of c z, whose score at x is that of z at x/c, divided by c."""

    level: NetworkLevel
    c: float

    @classmethod
    def of(cls, level: NetworkLevel, alpha: float, sigma: float) -> Rescaled:
        """Return a level, known at the same sigma/alpha, at this alpha and sigma."""
        fingerprint = f"{level.fingerprint}-{sigma!r}"
        return cls(level.name, fingerprint, level.shape, alpha, sigma, level, sigma / level.sigma)

    @property
    def like(self) -> Any:
        """One of the arrays that the score takes."""
        return self.level.like

    @property
    def mean(self) -> Array:
        """Centre of where chains belong."""
        return self.c * self.level.mean

    @property
    def standard_deviation(self) -> Array:
        """Scale of where chains belong."""
        return self.c * self.level.standard_deviation

    def score(self, x: Any) -> Any:
        """Gradient of the log density."""
        return self.level.score(x / self.c) / self.c
