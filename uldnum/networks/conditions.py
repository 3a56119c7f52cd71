"""Further inputs of a model, such as classes and embedded texts, and classifier-free guidance.

With guidance, one call of the model evaluates every image twice: with the condition and without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util import arguments
from uldnum._util.arguments import reals, shown
from uldnum._util.arraylib import host
from uldnum._util.names import printable
from uldnum._util.typing import Array, ArrayLike
from uldnum.networks.model import Device, Node

__all__ = ["CLASS", "Conditions", "array_of", "named_arrays", "weight"]

# Name by which users give the class of each image, whatever the name of this input in the model.
CLASS = "class"


@dataclass(frozen=True)
class Conditions:
    """Arrays for the inputs of a model other than the image and the noise level.

    Attributes
    ----------
    nodes : sequence of Node
        The inputs other than image and noise level.
    sets : sequence of mappings
        Mappings from the names of the inputs to arrays on the device of the model. The first mapping holds the
        condition. With guidance, a second mapping holds the inputs without the condition.
    guidance : float
        Weight w of classifier-free guidance; 1 means no guidance.
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
        """Check the arguments against the inputs of the model, and copy the arrays to its device.

        Raises
        ------
        ValueError
            If an input is missing, unknown, or has the wrong type or shape, if guidance is given for a model without
            further inputs, or if ``unconditional`` is given without guidance.
        """
        guidance = weight(guidance)
        inputs, unconditional = named_arrays("inputs", inputs), named_arrays("unconditional", unconditional)
        if guidance == 1 and unconditional:
            raise ValueError("unconditional: needs guidance; give a weight other than 1 (--guidance)")
        if guidance != 1 and not nodes:
            raise ValueError("guidance: must be 1 for a model without a condition")
        given = {"inputs": inputs} | ({"unconditional": unconditional} if guidance != 1 else {})
        sets = [check(argument, nodes, arrays) for argument, arrays in given.items()]
        for node in nodes:
            first, *others = (arrays[node.name] for arrays in sets)
            shared = [other for other in others if not per_image(node) and not np.array_equal(first, other)]
            if shared or any(other.shape[1:] != first.shape[1:] for other in others):
                raise ValueError(
                    f"unconditional: {node.name} must have the shape of the condition, {first.shape}, and only the "
                    "number of rows may differ; an input with one row for all images must equal the condition; got "
                    f"{others[0].shape} for {node.described}"
                )
        there = [{name: device.namespace.asarray(array) for name, array in arrays.items()} for arrays in sets]
        return cls(nodes, there, guidance)

    @property
    def rows(self) -> int:
        """Largest number of rows of an input: a call with this number of images uses every row."""
        each = (len(arrays[node.name]) for arrays in self.sets for node in self.nodes if per_image(node))
        return max(each, default=1)

    def copied(self) -> Conditions:
        """Return a copy, whose arrays are on CuPy's current GPU if they are CuPy arrays."""
        return replace(self, sets=[{name: array.copy() for name, array in arrays.items()} for arrays in self.sets])

    def of_chains(self, first: int, count: int) -> Conditions:
        """Return the conditions of ``count`` chains, of which the first one has the index ``first``.

        Chain i has row i modulo the number of rows.
        """
        varying = {node.name for node in self.nodes if per_image(node)}

        def own(name: str, array: Any) -> Any:
            n = len(array) if name in varying else 0
            return array[rows_of(slice(first, first + min(n, count)), n)] if n else array

        return replace(self, sets=[{name: own(name, array) for name, array in arrays.items()} for arrays in self.sets])

    @property
    def copies(self) -> int:
        """Number of rows of a call that belong to one image: 2 with guidance, otherwise 1."""
        return len(self.sets)

    def shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the inputs in a call with ``batch`` rows."""
        arrays = self.sets[0]
        return {
            node.name: (batch, *arrays[node.name].shape[1:]) if per_image(node) else arrays[node.name].shape
            for node in self.nodes
        }

    def fill(self, buffers: Mapping[str, Any], part: slice, rows: int, images: int) -> None:
        """Write the inputs of the images ``part`` to the buffers of a call, with ``rows`` rows for each set.

        ``images`` is the number of all images, and the largest permitted number of rows of an input.
        """
        n = part.stop - part.start
        for number, arrays in enumerate(self.sets):
            for node in self.nodes:
                array, buffer = arrays[node.name], buffers[node.name]
                if not per_image(node):
                    buffer[...] = array
                    continue
                if not 0 < len(array) <= images:
                    raise ValueError(
                        f"inputs: {node.name} must have at least 1 row and at most {images}, one per chain, got "
                        f"{len(array)}"
                    )
                buffer[number * rows : number * rows + n] = array[rows_of(part, len(array))]

    def guided(self, answer: Any, rows: int, n: int, real: Any) -> Any:
        """Return N_0 + w (N_c - N_0), where N_c is the output with the condition and N_0 that without it."""
        conditional = answer[:n]
        if self.copies == 1:
            return conditional
        plain = answer[rows : rows + n].astype(real)
        return plain + real(self.guidance) * (conditional - plain)

    @cached_property
    def described(self) -> bytes:
        """Bytes of all inputs and of the guidance weight, for the fingerprint of a target."""
        parts = [repr((self.guidance, [sorted(arrays) for arrays in self.sets])).encode()]
        parts += [arrays[name].tobytes() for arrays in self.sets for name in sorted(arrays)]
        return b"".join(parts)


def rows_of(part: slice, count: int) -> slice | Array:
    """Return the rows of the images ``part`` in an array of ``count`` rows. Image i has row i modulo ``count``."""
    if part.stop <= count:
        return part
    return slice(None) if count == 1 else np.arange(part.start, part.stop) % count


def per_image(node: Node) -> bool:
    """Return whether an input has one row for each image of a call."""
    return bool(node.shape) and node.shape[0] != 1


def weight(guidance: Any) -> float:
    """Return the weight of guidance, or raise an error if it is not a finite number."""
    found = arguments.number("guidance", guidance)
    if not np.isfinite(found):
        raise ValueError(f"guidance: must be a finite number, got {found}")
    return found


def named_arrays(argument: str, given: Any) -> dict[str, ArrayLike]:
    """Return a copy of a mapping from names to arrays. None gives an empty one; other types raise an error."""
    if not (given is None or isinstance(given, Mapping)):
        raise ValueError(f"{argument}: must be a mapping of names and arrays, got {shown(given)}")
    return {str(name): array for name, array in (given or {}).items()}


def check(argument: str, nodes: Sequence[Node], given: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Return the arrays in the types of the model's inputs, or raise an error if they do not fit."""
    arrays = {name: array_of(f"{argument}: {printable(name)}", array) for name, array in given.items()}
    wanted = {node.name: node for node in nodes}
    if CLASS in arrays and CLASS not in wanted:
        node = class_input(argument, nodes)
        if node.name in arrays:
            raise ValueError(f"{argument}: {CLASS}: stands for {printable(node.name)}; give only one of them")
        arrays[node.name] = arrays.pop(CLASS).reshape(-1, *node.shape[1:])
    option = {"inputs": "input"}.get(argument, argument)
    takes = "; ".join(node.described for node in nodes) or "only image and noise level"
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise ValueError(
            f"{argument}: the model needs {takes}; missing {', '.join(missing)} (--{option} NAME=FILE.npy or "
            "NAME=NUMBER)"
        )
    extra = [printable(name) for name in arrays if name not in wanted]
    if extra:
        raise ValueError(f"{argument}: the model accepts {takes}; unknown {', '.join(extra)}")
    return {name: fitted(argument, wanted[name], array) for name, array in arrays.items()}


def class_input(argument: str, nodes: Sequence[Node]) -> Node:
    """Return the one input that holds the class of each image: integers, one for each image."""
    whole = [node for node in nodes if node.dtype is not None and node.dtype.kind in "iu" and per_image(node)]
    found = [node for node in whole if all(size == 1 for size in node.shape[1:])]
    if len(found) != 1:
        known = "; ".join(node.described for node in nodes) or "only image and noise level"
        raise ValueError(
            f"{argument}: {CLASS}: needs a model with one integer input, besides the noise level, that has one number "
            f"for each image; this one accepts {known}"
        )
    return found[0]


def array_of(argument: str, value: ArrayLike) -> Array:
    """Return a value as an array of numbers or booleans without changing its type, or raise an error."""
    try:
        array = np.asarray(host(value))
    except Exception:  # a ragged list, or any error of an object that claims to be an array
        array = np.asarray(None)
    return array if array.dtype.kind in "fiub" else reals(argument, value)


def fitted(argument: str, node: Node, array: Array) -> Array:
    """Return an array in the type of an input, or raise an error if its type or shape does not fit.

    A single number stands for an array with that one element.
    """
    if not array.ndim:
        array = array.reshape((1,) * len(node.shape))
    fits = array.ndim == len(node.shape) and all(
        size in (None, n) for size, n in zip(node.shape[1:], array.shape[1:], strict=True)
    )
    if (
        not fits
        or node.dtype is None
        or array.dtype.kind not in "fiub"
        or (not per_image(node) and array.shape[:1] > (1,))
    ):
        raise ValueError(f"{argument}: the model needs {node.described}, got {array.dtype} of shape {array.shape}")
    cast = array.astype(node.dtype)
    if node.dtype.kind in "iub" and not np.array_equal(cast, array):
        raise ValueError(f"{argument}: {node.name} must be integers, got {array.ravel()[:3].tolist()} ...")
    return cast
