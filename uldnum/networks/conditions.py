"""What a model takes besides the image and the noise level: classes, embedded texts; with guidance, twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util import arguments
from uldnum._util.arguments import reals, shown
from uldnum._util.names import printable
from uldnum._util.typing import Array, ArrayLike
from uldnum.networks.model import Device, Node

__all__ = ["Conditions"]


@dataclass(frozen=True)
class Conditions:
    """Arrays for the other inputs of a model.

    Attributes
    ----------
    nodes : sequence of Node
        The inputs.
    sets : sequence of mappings
        Arrays by the names of the inputs, where the model runs: those of the condition and, with guidance, those
        without it.
    guidance : float
        Weight w of classifier-free guidance; 1 is none.
    """

    nodes: Sequence[Node]
    sets: Sequence[Mapping[str, Any]]
    guidance: float

    @classmethod
    def of(
        cls,
        nodes: Sequence[Node],
        device: Device,
        inputs: Mapping[str, ArrayLike] | None,
        unconditional: Mapping[str, ArrayLike] | None,
        guidance: float,
    ) -> Conditions:
        """Check what was given against what the model takes, and bring it there.

        Raises
        ------
        ValueError
            If something is missing, unknown, or of another kind; or guidance has nothing to guide.
        """
        guidance = arguments.number("guidance", guidance)
        if not np.isfinite(guidance):
            raise ValueError(f"guidance: must be a finite number, got {guidance}")
        for argument, arrays in (("inputs", inputs), ("unconditional", unconditional)):
            if not (arrays is None or isinstance(arrays, Mapping)):
                raise ValueError(f"{argument}: must be a mapping of names and arrays, got {shown(arrays)}")
        if guidance == 1 and unconditional:
            raise ValueError("unconditional: is for guidance; give a weight other than 1 (--guidance)")
        if guidance != 1 and not nodes:
            raise ValueError("guidance: the model takes no condition that could be left out")
        given = {"inputs": inputs} | ({"unconditional": unconditional} if guidance != 1 else {})
        sets = [check(argument, nodes, arrays) for argument, arrays in given.items()]
        for node in nodes:
            first, *others = (arrays[node.name] for arrays in sets)
            shared = [other for other in others if not per_image(node) and not np.array_equal(first, other)]
            if shared or any(other.shape[1:] != first.shape[1:] for other in others):
                raise ValueError(
                    f"unconditional: {node.name} must have the shape of the condition, {first.shape}, and its values "
                    f"where the model has one for all images; got {others[0].shape} for {node.described}"
                )
        there = [{name: device.namespace.asarray(array) for name, array in arrays.items()} for arrays in sets]
        return cls(nodes, there, float(guidance))

    @property
    def copies(self) -> int:
        """Rows of a call that belong to one image."""
        return len(self.sets)

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the inputs in a call."""
        arrays = self.sets[0]
        return {
            node.name: (batch, *arrays[node.name].shape[1:]) if per_image(node) else arrays[node.name].shape
            for node in self.nodes
        }

    def fill(self, buffers: Mapping[str, Any], part: slice, rows: int, images: int) -> None:
        """Write the inputs of some of the images; each set has so many rows."""
        n = part.stop - part.start
        for number, arrays in enumerate(self.sets):
            for node in self.nodes:
                array, buffer = arrays[node.name], buffers[node.name]
                if not per_image(node):
                    buffer[...] = array
                    continue
                if len(array) not in (1, images):
                    raise ValueError(f"inputs: {node.name} is for {len(array)} chains, there are {images}")
                buffer[number * rows : number * rows + n] = array if len(array) == 1 else array[part]

    def guided(self, answer: Any, rows: int, n: int, real: Any) -> Any:
        """Put the answers with and without the condition together, N_0 + w (N_c - N_0)."""
        conditional = answer[:n]
        if self.copies == 1:
            return conditional
        plain = answer[rows : rows + n].astype(real)
        return plain + real(self.guidance) * (conditional - plain)

    @cached_property
    def described(self) -> bytes:
        """Everything that an answer depends on."""
        parts = [repr((self.guidance, [sorted(arrays) for arrays in self.sets])).encode()]
        parts += [arrays[name].tobytes() for arrays in self.sets for name in sorted(arrays)]
        return b"".join(parts)


def per_image(node: Node) -> bool:
    """Whether an input has a row for every image of a call."""
    return bool(node.shape) and node.shape[0] != 1


def check(argument: str, nodes: Sequence[Node], given: Mapping[str, ArrayLike] | None) -> dict[str, Array]:
    """Return the arrays in the types of the model, or raise if they do not fit it."""
    named = {str(name): array for name, array in (given or {}).items()}
    arrays = {name: array_of(f"{argument}: {printable(name)}", array) for name, array in named.items()}
    wanted = {node.name: node for node in nodes}
    option = {"inputs": "input"}.get(argument, argument)
    takes = "; ".join(node.described for node in nodes) or "nothing but image and noise level"
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise ValueError(
            f"{argument}: the model takes {takes}; missing {', '.join(missing)} (--{option} NAME=FILE.npy)"
        )
    extra = [printable(name) for name in arrays if name not in wanted]
    if extra:
        raise ValueError(f"{argument}: the model takes {takes}; unknown {', '.join(extra)}")
    return {name: fitted(argument, wanted[name], array) for name, array in arrays.items()}


def array_of(argument: str, value: ArrayLike) -> Array:
    """Return a value as an array of numbers or booleans, in its own type, or raise."""
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, and whatever an object raises that says it is an array
        array = np.asarray(None)
    return array if array.dtype.kind in "fiub" else reals(argument, value)


def fitted(argument: str, node: Node, array: Array) -> Array:
    """Return an array in the type of an input, or raise if it does not fit."""
    fits = array.ndim == len(node.shape) and all(
        size in (None, n) for size, n in zip(node.shape[1:], array.shape[1:], strict=True)
    )
    if (
        not fits
        or node.dtype is None
        or array.dtype.kind not in "fiub"
        or (not per_image(node) and array.shape[:1] > (1,))
    ):
        raise ValueError(f"{argument}: the model takes {node.described}, got {array.dtype} of shape {array.shape}")
    cast = array.astype(node.dtype)
    if node.dtype.kind in "iub" and not np.array_equal(cast, array):
        raise ValueError(f"{argument}: {node.name} takes whole numbers, got {array.ravel()[:3].tolist()} ...")
    return cast
