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

from uldnum.integrators import whole_number
from uldnum.networks.card import Card, Level, card_of, read_card
from uldnum.networks.model import Device, Model, Roles
from uldnum.targets.noised import NoisedImages
from uldnum.typing import Array, ArrayLike

__all__ = ["Network", "NetworkLevel"]

# Images that the network is called with at once, at most, unless another number is asked for.
CHUNK = 64


class Network:
    """A network that knows the score of noised images at many noise levels.

    Parameters
    ----------
    path : Path
        The ONNX model.
    card : mapping
        Keys of its card (`Card`), over those of the file's metadata and of the TOML file beside it.
    device : "cpu" or "cuda"
        Where it runs; on "cuda" the score takes and returns CuPy arrays.
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
        Images in one call, at most: what a call needs of memory grows with it. Normals do not depend on it; states do,
        through the rounding of the network alone.
    threads : int, optional
        Threads on the CPU. Default: the cores that this process may use.
    tf32 : bool
        Let a GPU round the factors of matrix products to eleven bits.
    decoder : Path, optional
        ONNX model that makes images of the samples, where these are latents.
    decoder_scale : float
        Number by which samples are divided before.

    Raises
    ------
    ValueError
        If a file cannot be used, the card does not say enough, or an argument does not fit the model.
    MissingExtraError
        If ONNX Runtime, or CuPy for "cuda", is not installed.
    """

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
        decoder: Path | None = None,
        decoder_scale: float = 1.0,
    ) -> None:
        path = Path(path)
        self.device = Device(device, tf32)
        self.model = Model(path, self.device, threads)
        self.card: Card = card_of(
            {"name": path.stem} | read_card(path, self.model.metadata) | dict(card or {}), path.name
        )
        if self.card.sha256 not in ("", hashlib.sha256(path.read_bytes()).hexdigest()):
            raise ValueError(f"network: {path} is not the file that its card describes: its sha256 differs")
        self.roles = Roles.of(self.model.inputs, self.model.outputs, self.card)
        self.shape = self.image_shape()
        self.guidance, self.clip = float(guidance), clip
        batch = self.roles.image.shape[0]
        self.chunk = (batch or whole_number("chunk", chunk, 1, 2**20)) // (2 if self.guided else 1)
        self.given = self.extra_inputs("inputs", inputs)
        self.unconditional = self.extra_inputs("unconditional", unconditional) if self.guided else {}
        self.decoder, self.decoder_scale, self.threads = decoder, decoder_scale, threads
        self.check_condition()

    @property
    def guided(self) -> bool:
        """Whether every image is evaluated with and without its condition."""
        return self.guidance != 1

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
        return tuple(int(size) for size in shape)  # type: ignore[arg-type]

    def check_condition(self) -> None:
        """Raise if the model takes whole numbers where the card's are not whole."""
        node = self.roles.condition
        if node is not None and not node.real and self.card.condition != "timestep":
            raise ValueError(
                f"condition: the model takes whole numbers ({node.described}), which condition "
                f"{self.card.condition!r} does not give; 'timestep' does"
            )

    def extra_inputs(self, argument: str, given: Mapping[str, ArrayLike] | None) -> dict[str, Any]:
        """Return what the model takes besides image and noise level, where it runs, or raise if it does not fit."""
        arrays = {name: np.asarray(array) for name, array in (given or {}).items()}
        wanted = {node.name: node for node in self.roles.others}
        unknown = [name for name in arrays if name not in wanted]
        missing = [node.described for name, node in wanted.items() if name not in arrays]
        if unknown or missing:
            raise ValueError(
                f"{argument}: the model takes {'; '.join(n.described for n in wanted.values()) or 'nothing else'}"
                + (f"; missing {'; '.join(missing)}" if missing else "")
                + (f"; unknown {', '.join(unknown)}" if unknown else "")
                + (f" (--{'input' if argument == 'inputs' else argument} NAME=FILE.npy)" if missing else "")
            )
        for name, array in arrays.items():
            node = wanted[name]
            fits = array.ndim == len(node.shape) and all(
                size in (None, n) for size, n in zip(node.shape[1:], array.shape[1:], strict=True)
            )
            if not fits or node.dtype is None or array.dtype.kind not in "fiub":
                raise ValueError(
                    f"{argument}: the model takes {node.described}, got {array.dtype} of shape {array.shape}"
                )
            arrays[name] = self.device.namespace.asarray(array.astype(node.dtype))
        return arrays

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
        return NetworkLevel(
            f"{self.name} at sigma {level.sigma:.4g}", self.fingerprint(level), self.shape, level.alpha, level.sigma,
            self, level,
        )  # fmt: skip

    def fingerprint(self, level: Level) -> str:
        """Hash of everything that a score at a noise level is computed from."""
        sha = hashlib.sha256(self.model.digest.encode())
        sha.update(repr((level, self.shape, self.guidance, self.clip, self.chunk, self.card.data_range)).encode())
        for arrays in (self.given, self.unconditional):
            for name in sorted(arrays):
                sha.update(name.encode() + arrays[name].tobytes())
        return sha.hexdigest()[:16]

    def evaluate(self, x: Any, scale: float, condition: float) -> Any:
        """Return what the network answers to ``scale * x``, shape (n, *shape), in float32 at least.

        Raises
        ------
        ValueError
            If it fails.
        """
        xp = self.device.namespace
        answers = xp.empty(x.shape, np.result_type(np.float32, self.roles.output.dtype))
        for first in range(0, len(x), self.chunk):
            part = slice(first, min(first + self.chunk, len(x)))
            self.call(x, part, scale, condition, answers)
        return answers

    def call(self, x: Any, part: slice, scale: float, condition: float, answers: Any) -> None:
        """Evaluate some of the images with one call of the model."""
        n = part.stop - part.start
        fixed = self.roles.image.shape[0]
        rows = (fixed or n * (2 if self.guided else 1)) // (2 if self.guided else 1)  # images, padded where fixed
        batch = rows * (2 if self.guided else 1)
        binding, arrays = self.model.buffers(self.shapes(batch))
        image, xp = arrays[self.roles.image.name], self.device.namespace
        for begin in range(0, batch, rows):
            xp.multiply(x[part], scale, out=image[begin : begin + n], casting="unsafe")
        if self.roles.condition is not None:
            arrays[self.roles.condition.name][...] = condition
        for begin, given in zip(range(0, batch, rows), (self.given, self.unconditional), strict=False):
            for name, array in given.items():
                used = array if len(array) == 1 else array[part]
                if len(used) not in (1, n) or len(array) not in (1, len(x)):
                    raise ValueError(f"inputs: {name} is for {len(array)} chains, there are {len(x)}")
                arrays[name][begin : begin + n] = used
        self.model.run(binding)
        answer = arrays[self.roles.output.name]
        if self.guided:
            conditional, plain = answer[:n].astype(answers.dtype), answer[rows : rows + n]
            answers[part] = plain + answers.dtype.type(self.guidance) * (conditional - plain)
        else:
            answers[part] = answer[:n]

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all arrays of a call."""
        shapes = {self.roles.image.name: (batch, *self.shape), self.roles.output.name: (batch, *self.shape)}
        node = self.roles.condition
        if node is not None:
            shapes[node.name] = tuple(batch if axis == 0 and size is None else 1 if size is None else size
                                      for axis, size in enumerate(node.shape))  # fmt: skip
        for name, array in self.given.items():
            shapes[name] = (batch, *array.shape[1:])
        return shapes

    @cached_property
    def decoding(self) -> Model:
        """The model that makes images of latents."""
        if self.decoder is None:
            raise ValueError(f"decode: {self.name} has no decoder")
        return Model(self.decoder, Device(), self.threads)

    def decode(self, x: Array) -> Array:
        """Make images (n, channels, height, width) of denoised samples: of latents by their decoder, one at a time."""
        if self.decoder is None:
            return x
        (node,) = self.decoding.inputs
        scaled = np.asarray(x / self.decoder_scale, node.dtype)
        return np.concatenate([self.decoding.session.run(None, {node.name: one[None]})[0] for one in scaled])


@dataclass(frozen=True, eq=False)
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
        return np.full(self.shape, math.hypot(self.alpha * (high - low) / 2, self.sigma))

    def score(self, x: Any) -> Any:
        """Gradient of the log density of z, (n, *shape) -> (n, *shape), in the type of x, float32 at least.

        Raises
        ------
        ValueError
            If the shape is wrong, or the network answers NaN to images where chains belong.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"score: images must have shape (n, {', '.join(map(str, self.shape))}), got {x.shape}")
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
        image = (x + self.sigma**2 * score) / self.alpha
        return (self.alpha * image.clip(*self.network.card.data_range) - x) / self.sigma**2

    def check(self, x: Any, answer: Any) -> None:
        """Raise if there are numbers among the answers that are none, but for chains that ran away before."""
        if self.network.device.name == "cpu" and not np.isfinite(answer).all():
            axes = tuple(range(1, x.ndim))
            near = (np.abs(x - self.mean) < 100 * self.standard_deviation).all(axis=axes)
            bad = near & ~np.isfinite(answer).all(axis=axes)
            if bad.any():
                raise ValueError(
                    f"network: {self.network.name} answers numbers that are not finite at sigma = {self.sigma:.4g}, to "
                    f"{bad.sum()} of {len(x)} images that are"
                )
