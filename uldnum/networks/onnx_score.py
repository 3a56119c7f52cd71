"""Image score networks in ONNX, on ONNX Runtime."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uldnum.extras import require
from uldnum.kernels.array import initial_normals
from uldnum.typing import Array

__all__ = ["NetworkLevel", "OnnxScore", "vp_time"]


def vp_time(sigma: float) -> float:
    """Return the time t of the variance-preserving SDE with beta = 1 at which ``sigma^2 = 1 - exp(-t)``."""
    return -math.log1p(-(sigma**2))


@dataclass(frozen=True, eq=False)
class OnnxScore:
    """A network that computes the score s(z, t) of noised images ``z = alpha x + sigma eps``, alpha^2 + sigma^2 = 1.

    Parameters
    ----------
    path : Path
        An ONNX model with inputs ``x`` (batch, *shape) and ``t`` (batch,), both float32, and one output like ``x``.
    name : str
        What it is called in output.
    time : callable
        Noise level sigma -> the model's t.

    Raises
    ------
    MissingExtraError
        If ONNX Runtime is not installed.
    ValueError
        If the file is no such model.
    """

    path: Path
    name: str
    time: Callable[[float], float] = vp_time
    session: Any = field(init=False, repr=False)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        runtime = require("onnxruntime", "onnx")
        if not Path(self.path).is_file():
            raise ValueError(f"network: no such file: {self.path}")
        try:
            session = runtime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault of a file
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"network: {self.path} is not a model that ONNX Runtime can read: {reason}; "
                "if it was fetched, delete it and try again"
            ) from None
        inputs = {node.name: node for node in session.get_inputs()}
        outputs = session.get_outputs()
        found = f"inputs { ({name: node.shape for name, node in inputs.items()}) }, {len(outputs)} output(s)"
        if set(inputs) != {"x", "t"} or len(outputs) != 1:
            raise ValueError(f"network: needs inputs x and t and one output; {self.path} has {found}")
        shape = tuple(inputs["x"].shape[1:])
        if len(shape) < 2 or not all(isinstance(size, int) for size in shape):
            raise ValueError(f"network: the image shape must be fixed; {self.path} has {found}")
        object.__setattr__(self, "session", session)
        object.__setattr__(self, "shape", shape)

    def at(self, sigma: float) -> NetworkLevel:
        """Return the network at one noise level, a target for `uldnum.sample`.

        Parameters
        ----------
        sigma : float
            Noise level, 0 < sigma < 1.
        """
        if not 0 < sigma < 1:
            raise ValueError(f"sigma: must lie between 0 and 1 (alpha^2 + sigma^2 = 1), got {sigma}")
        return NetworkLevel(self, float(sigma))


@dataclass(frozen=True, eq=False)
class NetworkLevel:
    """A network at one noise level: the law of ``z = alpha x + sigma eps`` as a target.

    Step sizes are in units of sigma, frictions in units of 1/sigma.
    """

    network: OnnxScore
    sigma: float

    @property
    def alpha(self) -> float:
        """Scale of the image in z."""
        return math.sqrt(1 - self.sigma**2)

    @property
    def name(self) -> str:
        """What it is called in output."""
        return f"{self.network.name} at sigma {self.sigma:g}"

    @property
    def compiled(self) -> bool:
        """Whether the kernels can run it: no, the array executor does."""
        return False

    @property
    def fingerprint(self) -> str:
        """Hash of the model file and the noise level: what a saved run was run on."""
        return hashlib.sha256(self.network.path.read_bytes() + repr(self.sigma).encode()).hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.network.shape

    @property
    def time_unit(self) -> float:
        """Unit of the step size: sigma."""
        return self.sigma

    @property
    def dtype(self) -> str:
        """Floating-point type of a run, unless another is asked for: that of the network."""
        return "float32"

    @property
    def mean(self) -> Array:
        """Centre of where chains belong: 0."""
        return np.zeros(self.shape)

    @property
    def standard_deviation(self) -> Array:
        """Scale of where chains belong: that of z for data of unit variance."""
        return np.full(self.shape, self.spread)

    @property
    def spread(self) -> float:
        """Standard deviation of z for data of unit variance, sqrt(alpha^2 + sigma^2)."""
        return math.hypot(self.alpha, self.sigma)

    def score(self, x: Array) -> Array:
        """Gradient of the log density of z, (n, *shape) -> (n, *shape), in float32."""
        t = np.full(len(x), self.network.time(self.sigma), np.float32)
        score: Array = self.network.session.run(None, {"x": np.ascontiguousarray(x, np.float32), "t": t})[0]
        return score

    def denoise(self, x: Array) -> Array:
        """Mean of the image given z (Tweedie's formula): ``(z + sigma^2 s(z))/alpha``."""
        return (x + self.sigma**2 * self.score(x)) / self.alpha

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Initial states: N(0, alpha^2 + sigma^2), the law of z for data of unit variance, here N(0, 1)."""
        z = initial_normals(n, seed, first, 0, math.prod(self.shape))
        return self.spread * z.reshape(n, *self.shape)
