"""Files of runs: labelled results for readers, and the group ``resume`` with what resuming needs.

The root group of a file holds named results. The final states ``x`` and ``p`` and the ``trace`` are stored only there,
and are read back. All other variables of the root group are derived when a run is written and are ignored when it is
read. The group ``resume`` holds the rest of the state, the settings and the coefficients, and a hash of all that is
read. Every array is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from uldnum._util.files import load, store
from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER, Tables
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State, carried_shapes, statistics_shapes
from uldnum.sampling.settings import Settings

if TYPE_CHECKING:
    from uldnum.sampling.run import Run

__all__ = ["FormatError", "content_digest", "labelled", "pack", "read", "sample_dims", "write"]

# Version of the file format. It must be increased when earlier versions of uldnum cannot read the files of this one.
FORMAT = 5

# Variables of the root group that are read back; all others are results that are computed from the state.
READ = ("x", "p", "trace")

# Statistics in a file for each value of the argument ``record``, with their dimensions. Each is stored with its error.
STATISTICS: dict[str | None, dict[str, tuple[str, ...]]] = {
    None: {},
    "mean": {"mean": ("dim",)},
    "variance": {"mean": ("dim",), "variance": ("dim",)},
    "covariance": {"mean": ("dim",), "covariance": ("dim", "dim_2")},
    "phase-space-variance": {
        "mean": ("dim",), "variance": ("dim",), "momentum_mean": ("dim",), "momentum_variance": ("dim",),
        "kinetic_temperature": (),
    },
    "phase-space-covariance": {
        "mean": ("dim",), "covariance": ("dim", "dim_2"), "momentum_mean": ("dim",),
        "momentum_covariance": ("dim", "dim_2"), "position_momentum_covariance": ("dim", "dim_2"),
        "kinetic_temperature": (),
    },
}  # fmt: skip

# Dimensions of the arrays of a state in the group ``resume``. ``more_rows`` are the rows of (x, p) beyond the second.
STATE = {
    "u": ("h", "chain", "row", "coordinate"),
    "more_rows": ("h", "chain", "more", "coordinate"),
    "sums": ("h", "chain", "axis"),
    "products": ("h", "chain", "pair"),
    "counts": ("h", "batch", "histogram_axis", "bin"),
    "escape_step": ("h", "chain"),
    "nfe": ("h", "chain"),
    "score": ("h", "chain", "carried_coordinate"),
    "log_density": ("h", "chain", "carried"),
    "accepted": ("h", "chain", "carried"),
}
AXES = ("centre", "low", "high")
COEFFICIENTS: dict[str, Any] = {"tables": Tables, "mixture": MixtureData}
ATTRIBUTES = ("settings", "info", "steps", "step")


class FormatError(ValueError):
    """Error for a run that was saved in another format."""


# ------------------------------------------------------------------------------------------------------------- writing


def sample_dims(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the dimensions of one sample: a vector, a picture with or without channels, or any array."""
    if len(shape) == 1:
        return ("dim",)
    return (
        ("channel", "row", "column")[-len(shape) :] if len(shape) < 4 else tuple(f"dim_{i}" for i in range(len(shape)))
    )


def labelled(run: Run) -> xr.Dataset:
    """Return the results of a run as named variables, and its settings as attributes."""
    s = run.settings
    lead, sample = ("h",) if s.grouped else (), sample_dims(s.shape)
    second = "momenta" if s.momenta else "second row of the memory"
    data: dict[str, Any] = {"x": ((*lead, "chain", *sample), run.x, {"long_name": "positions after the last step"})}
    if run.p is not None:
        data["p"] = ((*lead, "chain", *sample), run.p, {"long_name": f"{second} after the last step"})
    coordinates: dict[str, Any] = {"h": ("h", run.h, {"units": s.unit_of_time})} if s.grouped else {}
    if (trace := run.trace) is not None:
        data["trace"] = ((*lead, "draw", "chain", *sample), trace, {"long_name": "recorded positions"})
        draws = np.arange(1, len(run.kept) + 1) * (s.thin or 1)
        counted = "recorded steps" if s.thin else "phases"
        coordinates["draw"] = ("draw", draws, {"long_name": f"number of {counted} before the draw"})
    known = {name: dims for name, dims in STATISTICS[s.record].items() if hasattr(run, name)}
    for name, dims in known.items():
        data |= {of: ((*lead, *dims), getattr(run, of)) for of in (name, f"{name}_error")}
    if s.bins:
        counts = run.histogram.sum(axis=-3)
        data["histogram"] = ((*lead, "dim", "bin"), counts[..., 1:-1], {"long_name": "counts between two edges"})
        data["below"] = ((*lead, "dim"), counts[..., 0], {"long_name": "counts below the first edge"})
        data["above"] = ((*lead, "dim"), counts[..., -1], {"long_name": "counts above the last edge"})
        data["edges"] = (("dim", "edge"), run.edges, {"long_name": "edges of the bins"})
    if run.settings.metropolised:
        for of in ("acceptance", "acceptance_error"):
            data[of] = (lead, getattr(run, of), {"long_name": f"{of.replace('_', ' ')} of recorded steps"})
        data["density_evaluations"] = ((), run.density_evaluations, {"long_name": "log densities per chain"})
    data["nfe"] = ((), run.nfe, {"long_name": "score evaluations per chain"})
    data["diverged"] = (lead, run.diverged, {"long_name": "number of chains that diverged"})
    return xr.Dataset(data, coordinates, attributes_of(run))


def attributes_of(run: Run) -> dict[str, Any]:
    """Return the settings of a run that a reader of its file needs; a plan has neither a step size nor a friction."""
    s = run.settings
    sizes = {"h": run.h.tolist(), "friction": s.friction, "units": s.units} if any(s.h) else {}
    recorded = {"record": s.record, "record_every": s.record_every} if s.record else {}
    return {
        "target": s.target, "integrator": s.integrator, **sizes, "temperature": s.temperature,
        "score_noise": s.score_noise, "mass": json.dumps(s.mass) if np.ndim(s.mass) else s.mass, "steps": run.steps,
        "recorded_steps": run.recorded_steps, **recorded, "burn_in": s.burn_in, "chains": s.chains,
        "first_chain": s.first_chain, "seed": s.seed, "backend": s.backend, "dtype": s.dtype, "version": s.version,
    }  # fmt: skip


def pack(run: Run, results: xr.Dataset) -> xr.Dataset:
    """Return the group ``resume`` of a run, given its results from `labelled`."""
    arrays = vars(run.state) | {"more_rows": run.state.phase_space[:, :, 2:]}
    data: dict[str, Any] = {name: (dims, arrays[name]) for name, dims in STATE.items()}
    data |= {name: ("coordinate", getattr(run, name)) for name in AXES}
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
    resume = xr.Dataset(data, attrs=attributes)
    return resume.assign_attrs(digest=content_digest(results, resume))


def content_digest(results: xr.Dataset, resume: xr.Dataset) -> str:
    """Return a hash of the variables and attributes that `unpack` reads. All others are ignored."""
    arrays = {name: results[name].values for name in READ if name in results.variables}
    own = {*STATE, *AXES}
    arrays |= {
        str(name): variable.values
        for name, variable in resume.variables.items()
        if name in own or str(name).partition("_")[0] in COEFFICIENTS
    }
    sha = hashlib.sha256()
    for name in ATTRIBUTES:
        sha.update(f"{name} {resume.attrs[name]} ".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def write(run: Run, results: xr.Dataset, path: Path) -> None:
    """Write the results of a run and its group ``resume``. The results may contain additional variables."""
    store(results.assign_attrs(format=FORMAT), path, resume=pack(run, results))


# ------------------------------------------------------------------------------------------------------------- reading


def read(path: Path) -> dict[str, Any]:
    """Return the attributes of a run that `write` stored.

    Raises
    ------
    FormatError
        If the run was saved in another format.
    OSError, ValueError
        If the file is not a saved run. The message names the array or attribute that is wrong.
    """
    results = load(path)
    # The first format had no number and stored its digest in the root group.
    found = results.attrs.get("format", 1 if "digest" in results.attrs else None)
    if found is None:
        raise ValueError("it has no format; uldnum.Run.save writes runs")
    if found != FORMAT:
        raise FormatError(f"was saved in format {found}, and this version of uldnum reads format {FORMAT}")
    return unpack(results, load(path, "resume"))


def unpack(results: xr.Dataset, resume: xr.Dataset) -> dict[str, Any]:
    """Return the attributes of a run from the two groups of its file.

    Raises
    ------
    ValueError
        If an array or an attribute is missing or does not match the settings. The message names it.
    """
    missing = {*ATTRIBUTES, "digest"} - set(resume.attrs)
    missing |= {"x"} - set(results.variables)
    missing |= {*STATE, *AXES} - set(resume.variables)
    if missing:
        raise ValueError(f"it has no {min(map(str, missing))}")
    settings = Settings.from_json(resume.attrs["settings"])
    steps, step = (whole(name, resume.attrs[name]) for name in ("steps", "step"))
    if not 0 <= step <= settings.burn_in + steps:
        raise ValueError(f"step must be at least 0 and at most {settings.burn_in + steps}, got {step}")
    info = json.loads(resume.attrs["info"])
    if not isinstance(info, dict):
        raise ValueError("info is not a dictionary")
    arrays = {str(name): variable.values for name, variable in resume.variables.items()}
    arrays |= {name: results[name].values for name in READ if name in results.variables}
    check_arrays(settings, arrays, step)
    if resume.attrs["digest"] != content_digest(results, resume):
        raise ValueError("its content was altered: it does not match the digest")
    arrays["phase_space"] = phase_space(arrays)
    state = State(**{name: arrays[name] for name in (*STATE, "phase_space") if name != "more_rows"}, step=step)
    return {
        "settings": settings, "steps": steps, "state": state, "kept": kept(settings, arrays.get("trace")),
        **{name: arrays[name] for name in AXES}, **{kind: named(kind, arrays) for kind in COEFFICIENTS}, "info": info,
    }  # fmt: skip


def phase_space(arrays: dict[str, Array]) -> Array:
    """Return the positions and momenta of all chains, shape (H, n, k, d), from the arrays of a file."""
    H, n, k, d = arrays["u"].shape
    rows = [arrays[name].reshape(H, n, 1, d) for name in ("x", "p")[:k]]
    return np.concatenate([*rows, arrays["more_rows"]], axis=2)


def kept(settings: Settings, trace: Array | None) -> list[Array]:
    """Return the stored positions, shape (H, n, d) each, from the trace of a file."""
    if trace is None:
        return []
    flat = trace.reshape(len(settings.h), -1, settings.chains, math.prod(settings.shape))
    return list(flat.swapaxes(0, 1))


def whole(name: str, value: Any) -> int:
    """Return a stored number as an int, or raise if it is not an integer."""
    if not isinstance(value, int | np.integer):
        raise ValueError(f"{name} is not an integer")
    return int(value)


def check_arrays(settings: Settings, arrays: dict[str, Array], step: int) -> None:
    """Raise if an array has a shape or type that does not match the settings, or values out of range."""
    H, n, d, kind = len(settings.h), settings.chains, math.prod(settings.shape), settings.dtype
    lead = (H,) if settings.grouped else ()
    k = arrays["u"].shape[2] if arrays["u"].ndim == 4 else 0
    plan = not any(settings.h)
    if (settings.record is None) != (plan or len(settings.shape) > 1):
        raise ValueError("settings: record must be None for images and plans, and only for them")
    shapes = statistics_shapes(H, n, d, settings.record, settings.bins)
    shapes |= carried_shapes(H, n, d, settings.metropolised)
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        **dict.fromkeys(("x", "p")[:k], ((*lead, n, *settings.shape), kind)), "u": ((H, n, k, d), kind),
        "more_rows": ((H, n, max(k - 2, 0), d), kind), "sums": (shapes["sums"], "float64"),
        "products": (shapes["products"], "float64"), "counts": (shapes["counts"], "int64"),
        "escape_step": ((H, n), "int64"), "nfe": ((H, n), "int64"), "score": (shapes["score"], kind),
        "log_density": (shapes["log_density"], "float64"), "accepted": (shapes["accepted"], "int64"),
        **dict.fromkeys(AXES, ((d,), "float64")),
    }  # fmt: skip
    recorded = max(0, step - settings.burn_in)
    draws = recorded // (settings.thin or step + 1)
    if plan and "trace" in arrays and arrays["trace"].ndim:
        draws = len(arrays["trace"])
    if draws or "trace" in arrays:
        expected["trace"] = ((*lead, draws, n, *settings.shape), kind)
    for name, (shape, dtype) in expected.items():
        if name not in arrays:
            raise ValueError(f"it has no {name}")
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype or (name == "u" and not k):
            raise ValueError(f"{name} must have shape {shape} and type {dtype}, got {array.shape} and {array.dtype}")
    escape_step = arrays["escape_step"]
    if np.any((escape_step < 0) | ((escape_step > step) & (escape_step != NEVER))) or np.any(arrays["nfe"] < 0):
        raise ValueError("escape_step or nfe is out of range")
    if np.any((arrays["accepted"] < 0) | (arrays["accepted"] > step)):
        raise ValueError("accepted is out of range")
    going = escape_step == NEVER  # diverged chains may have non-finite values
    finite = {name: arrays[name].reshape(H, n, d)[going] for name in ("x", "p")[:k]}
    own = ("more_rows", "sums", "score", "log_density", *(["u"] if step else []))
    finite |= {name: arrays[name][going] for name in own}
    finite["centre"] = arrays["centre"]
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
        raise ValueError(f"its coefficients {kind!r} are incomplete")
    return make(*(part if part is None or part.ndim else part.item() for part in parts))
