"""Conversion between runs and labelled datasets. Every array of a stored run is checked before it is used."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER, Tables
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State, statistics_shapes
from uldnum.sampling.settings import Settings

if TYPE_CHECKING:
    from uldnum.sampling.run import Run

__all__ = ["pack", "unpack"]

# Dimensions of the arrays of a state.
STATE = {
    "u": ("h", "chain", "row", "coordinate"),
    "phase_space": ("h", "chain", "row", "coordinate"),
    "sums": ("h", "chain", "axis"),
    "products": ("h", "chain", "pair"),
    "counts": ("h", "batch", "histogram_axis", "bin"),
    "escape_step": ("h", "chain"),
    "nfe": ("h", "chain"),
}
AXES = ("centre", "low", "high")
NAMES = {"u": "memory of the recurrence", "phase_space": "position and momentum"}
COEFFICIENTS: dict[str, Any] = {"tables": Tables, "mixture": MixtureData}


def pack(run: Run) -> xr.Dataset:
    """Return a run as a dataset from which `unpack` restores it."""
    data: dict[str, Any] = {
        name: (dims, getattr(run.state, name), {"long_name": NAMES[name]} if name in NAMES else {})
        for name, dims in STATE.items()
    }
    data |= {name: ("coordinate", getattr(run, name)) for name in AXES}
    if run.kept:
        data["trace"] = (("recorded", "h", "chain", "coordinate"), np.stack(run.kept))
    for kind in COEFFICIENTS:
        parts = getattr(run, kind)
        for name, part in {} if parts is None else parts._asdict().items():
            array = np.asarray(part)
            data[f"{kind}_{name}"] = ([f"{kind}_{name}_{i}" for i in range(array.ndim)], array)
    attributes = {
        "settings": run.settings.to_json(),
        "info": json.dumps(run.info),
        "steps": run.steps,
        "step": run.state.step,
    }
    dataset = xr.Dataset(data, {"h": ("h", list(run.settings.h), {"units": "time"})}, attributes)
    return dataset.assign_attrs(digest=content_digest(dataset))


def content_digest(dataset: xr.Dataset) -> str:
    """Return a hash of the variables and attributes that `unpack` reads; additional ones are ignored."""
    own = [*STATE, *AXES, "trace", "h"]
    own += [str(name) for name in dataset.variables if str(name).partition("_")[0] in COEFFICIENTS]
    sha = hashlib.sha256()
    for name in ("settings", "info", "steps", "step"):
        sha.update(f"{name} {dataset.attrs[name]} ".encode())
    for name in sorted(own):
        if name in dataset.variables:
            array = np.ascontiguousarray(dataset[name].values)
            sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def unpack(stored: xr.Dataset) -> dict[str, Any]:
    """Return the attributes of a run that `pack` stored.

    Raises
    ------
    ValueError
        If an array or an attribute is missing or does not match the settings. The message names it.
    """
    missing = {"settings", "info", "steps", "step", "digest"} - set(stored.attrs)
    missing |= {*STATE, *AXES} - set(stored.variables)
    if missing:
        raise ValueError(f"it has no {min(map(str, missing))}")
    settings = Settings.from_json(stored.attrs["settings"])
    steps, step = (whole(name, stored.attrs[name]) for name in ("steps", "step"))
    if not 0 <= step <= settings.burn_in + steps:
        raise ValueError(f"step must be at least 0 and at most {settings.burn_in + steps}, got {step}")
    info = json.loads(stored.attrs["info"])
    if not isinstance(info, dict):
        raise ValueError("info is not a dictionary")
    arrays = {str(name): variable.values for name, variable in stored.variables.items()}
    check_arrays(settings, arrays, step)
    if stored.attrs["digest"] != content_digest(stored):
        raise ValueError("its content was altered: it does not match the digest")
    state = State(**{name: arrays[name] for name in STATE}, step=step)
    return {
        "settings": settings, "steps": steps, "state": state, "kept": list(arrays.get("trace", ())),
        **{name: arrays[name] for name in AXES}, **{kind: named(kind, arrays) for kind in COEFFICIENTS}, "info": info,
    }  # fmt: skip


def whole(name: str, value: Any) -> int:
    """Return a stored number as an int, or raise if it is not an integer."""
    if not isinstance(value, int | np.integer):
        raise ValueError(f"{name} is not an integer")
    return int(value)


def check_arrays(settings: Settings, arrays: dict[str, Array], step: int) -> None:
    """Raise if an array has a shape or type that does not match the settings, or values out of range."""
    H, n, d, kind = len(settings.h), settings.chains, math.prod(settings.shape), settings.dtype
    k = arrays["u"].shape[2] if arrays["u"].ndim == 4 else 0
    plan = not any(settings.h)
    shapes = statistics_shapes(H, n, d, not plan and len(settings.shape) == 1, settings.bins)
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "u": ((H, n, k, d), kind), "phase_space": ((H, n, k, d), kind), "sums": (shapes["sums"], "float64"),
        "products": (shapes["products"], "float64"), "counts": (shapes["counts"], "int64"),
        "escape_step": ((H, n), "int64"), "nfe": ((H, n), "int64"), **dict.fromkeys(AXES, ((d,), "float64")),
    }  # fmt: skip
    recorded = max(0, step - settings.burn_in)
    if "trace" in arrays:
        kept = len(arrays["trace"]) if plan and arrays["trace"].ndim else recorded // (settings.thin or step + 1)
        expected["trace"] = ((kept, H, n, d), kind)
    elif settings.thin and recorded >= settings.thin:
        raise ValueError("it has no trace")
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype or (name == "u" and not k):
            raise ValueError(f"{name} must have shape {shape} and type {dtype}, got {array.shape} and {array.dtype}")
    escape_step = arrays["escape_step"]
    if np.any((escape_step < 0) | ((escape_step > step) & (escape_step != NEVER))) or np.any(arrays["nfe"] < 0):
        raise ValueError("escape_step or nfe is out of range")
    going = escape_step == NEVER  # diverged chains may have non-finite values
    finite = {"centre": arrays["centre"], "phase_space": arrays["phase_space"][going], "sums": arrays["sums"][going]}
    if step:
        finite["u"] = arrays["u"][going]
    for name, array in finite.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has non-finite values")


def named(kind: str, arrays: dict[str, Array]) -> Any:
    """Return the stored coefficients of a kind as a named tuple, or None if there are none."""
    make = COEFFICIENTS[kind]
    parts = [arrays.get(f"{kind}_{name}") for name in make._fields]
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts):
        raise ValueError(f"its {kind} is incomplete")
    return make(*(part if part is None or part.ndim else part.item() for part in parts))
