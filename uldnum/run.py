"""What a run returns: final states and statistics, stored and resumed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum.extras import require
from uldnum.files import load, store
from uldnum.kernels import State
from uldnum.kernels.core import NEVER
from uldnum.moments import Moments
from uldnum.typing import Array

__all__ = ["Run", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What determines a run, apart from how long it lasts.

    Attributes
    ----------
    version : str
        Version of uldnum.
    target, fingerprint : str
        Name of the target, and a hash of it.
    shape : tuple of int
        Shape of one sample.
    integrator : str
        Name of the integrator.
    tables : str
        Hash of its coefficients.
    backend, dtype : str
        Where the run was made.
    h : tuple of float
        Step sizes, in the unit of the target.
    grouped : bool
        Whether results carry a leading axis over them.
    friction : float
        Friction, in the reciprocal unit.
    burn_in, chains, seed, first_chain : int
        As given to `uldnum.sample`.
    thin : int or None
        Recorded steps between states of the trace.
    bins : int
        Bins of the histograms, 0 for none.
    x0 : str
        Where chains began: a name, or "given".
    """

    version: str
    target: str
    fingerprint: str
    shape: tuple[int, ...]
    integrator: str
    tables: str
    backend: str
    dtype: str
    h: tuple[float, ...]
    grouped: bool
    friction: float
    burn_in: int
    chains: int
    seed: int
    first_chain: int
    thin: int | None
    bins: int
    x0: str

    def differences(self, other: Settings) -> list[str]:
        """Say in words what differs in another run's settings."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        hashes = {
            "tables": "the coefficients are others: those of another method, step size, level or option",
            "fingerprint": "the target is another, or runs with other options",
        }
        return [
            hashes.get(name, f"{name} is {theirs!r}, was {ours!r}") for name, ours, theirs in pairs if ours != theirs
        ]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """Chains and their statistics, as `uldnum.sample` returns them. With h of shape (H,) arrays have a leading axis H.

    Attributes
    ----------
    settings : Settings
        What was run.
    steps : int
        Recorded steps that were asked for.
    state : State
        The chains, from which the run can be resumed.
    states : list of arrays
        Recorded positions, shape (H, chains, d) each.
    centre, low, high : float64 arrays, shape (d,)
        What the moments are taken about, and the range of the histograms.
    info : dict
        How it was run: threads, whether a user's score ran on vectors, the GPU, the library of arrays.
    """

    settings: Settings
    steps: int
    state: State
    states: list[Array]
    centre: Array
    low: Array
    high: Array
    info: dict[str, str]

    def __repr__(self) -> str:
        """Say what was run, not all its numbers."""
        s = self.settings
        done = "" if self.complete else f", {self.recorded_steps} done"
        h = f"h={list(s.h) if s.grouped else s.h[0]}, " if any(s.h) else ""  # a plan has its own
        return f"Run({s.integrator} on {s.target}, {h}{s.chains} chains, {self.steps} steps{done})"

    def each(self, array: Array) -> Array:
        """Drop the leading axis H where h was a number."""
        return array if self.settings.grouped else array[0]

    def positions(self, flat: Array) -> Array:
        """Give samples of d numbers the shape of the target."""
        return self.each(flat.reshape(*flat.shape[:-1], *self.settings.shape))

    @property
    def recorded_steps(self) -> int:
        """Recorded steps that were taken; fewer than ``steps`` if the run was stopped."""
        return max(0, self.state.step - self.settings.burn_in)

    @property
    def complete(self) -> bool:
        """Whether the run was not stopped."""
        return self.recorded_steps == self.steps

    @property
    def h(self) -> Array:
        """Step size, in the unit of the target."""
        return self.each(np.array(self.settings.h))

    @property
    def x(self) -> Array:
        """Positions at the end of the last step, shape (chains, *shape)."""
        return self.positions(self.state.xp[:, :, 0])

    @property
    def p(self) -> Array | None:
        """Momenta at the same time, or whatever the scheme keeps in its second row; None if it keeps nothing."""
        return self.positions(self.state.xp[:, :, 1]) if self.state.xp.shape[2] > 1 else None

    @property
    def trace(self) -> Array | None:
        """Positions every ``thin`` recorded steps, shape (recorded, chains, *shape); None if not asked for."""
        return self.positions(np.stack(self.states, axis=1)) if self.states else None

    @property
    def recorded(self) -> Array:
        """The trace, or an error in words where there is none."""
        trace = self.trace
        if trace is None:
            raise ValueError("the run recorded no trace: pass thin to sample(), at most steps, or keep to anneal()")
        return trace

    def check_one_step_size(self) -> None:
        """Raise if the run holds several step sizes."""
        if self.settings.grouped:
            raise ValueError("run: holds several step sizes; sample one h at a time")

    @property
    def nfe(self) -> int:
        """Score evaluations per chain, burn-in included."""
        return int(self.state.nfe.max())

    @property
    def diverged(self) -> Array:
        """Number of chains that diverged. Where it is not 0 the statistics are NaN."""
        return np.asarray(self.each((self.state.left < NEVER).sum(axis=1)))

    @property
    def diverged_at(self) -> Array:
        """Step at which the first chain diverged, burn-in included; -1 where none did."""
        first = self.state.left.min(axis=1)
        return np.asarray(self.each(np.where(first < NEVER, first, -1)))

    # ---------------------------------------------------------------------------------------------------- statistics

    @cached_property
    def moments(self) -> Moments:
        """First and second moments of every chain."""
        if not self.state.sums.size:
            raise ValueError(f"the run on {self.settings.target!r} keeps no moments, as images and plans do; use run.x")
        bad = (self.state.left.min(axis=1) < NEVER)[:, None, None]
        share = 1 / self.recorded_steps if self.recorded_steps else np.nan
        first, second = (
            self.each(np.where(bad, np.nan, part * share)) for part in (self.state.sums, self.state.squares)
        )
        return Moments(self.centre, first, second)

    @property
    def mean(self) -> Array:
        """Mean over chains and steps after burn-in, shape (d,)."""
        return self.moments.mean

    @property
    def mean_error(self) -> Array:
        """Standard error of `mean`, from the spread over chains."""
        return self.moments.mean_error

    @property
    def covariance(self) -> Array:
        """Covariance over chains and steps after burn-in, shape (d, d)."""
        return self.moments.covariance

    @property
    def covariance_error(self) -> Array:
        """Standard error of `covariance`, from the spread over chains."""
        return self.moments.covariance_error

    @property
    def histogram(self) -> Array:
        """Counts of each axis in batches of chains, shape (batches, d, bins + 2): below, the bins, above."""
        if not self.settings.bins:
            raise ValueError("the run kept no histograms: pass bins to sample()")
        return self.each(self.state.counts)

    @property
    def edges(self) -> Array:
        """Edges of the bins of each axis, shape (d, bins + 1)."""
        return np.linspace(self.low, self.high, self.settings.bins + 1, axis=-1)

    # ------------------------------------------------------------------------------------------------------- storage

    def to_xarray(self) -> xr.Dataset:
        """Return everything as a labelled dataset, from which the run can be resumed."""
        state = self.state
        data: dict[str, Any] = {
            "u": (("h", "chain", "row", "coordinate"), state.u, {"long_name": "memory of the recurrence"}),
            "xp": (("h", "chain", "row", "coordinate"), state.xp, {"long_name": "position and momentum"}),
            "sums": (("h", "chain", "axis"), state.sums),
            "squares": (("h", "chain", "pair"), state.squares),
            "counts": (("h", "batch", "histogram_axis", "bin"), state.counts),
            "left": (("h", "chain"), state.left),
            "nfe": (("h", "chain"), state.nfe),
            "centre": ("coordinate", self.centre),
            "low": ("coordinate", self.low),
            "high": ("coordinate", self.high),
        }
        if self.states:
            data["trace"] = (("recorded", "h", "chain", "coordinate"), np.stack(self.states))
        attributes = {"settings": json.dumps(asdict(self.settings)), "steps": self.steps, "step": state.step}
        attributes["info"] = json.dumps(self.info)
        return xr.Dataset(data, {"h": ("h", list(self.settings.h), {"units": "time"})}, attributes)

    def save(self, path: str | Path) -> None:
        """Write the run to a file ``.nc`` (NetCDF) or a folder ``.zarr``, atomically."""
        store(self.to_xarray(), Path(path))

    @classmethod
    def load(cls, path: str | Path, argument: str = "path") -> Run:
        """Read a run that `save` wrote; errors name the argument.

        Raises
        ------
        ValueError
            If the file is not a saved run.
        """
        try:
            stored = load(Path(path))
            given: dict[str, Any] = json.loads(stored.attrs["settings"])
            settings = Settings(**given | {name: tuple(given[name]) for name in ("h", "shape")})
            arrays = {name: stored[name].values for name in ("u", "xp", "sums", "squares", "counts", "left", "nfe")}
            state = State(**arrays, step=int(stored.attrs["step"]))
            states = list(stored["trace"].values) if "trace" in stored else []
            centre, low, high = (stored[name].values for name in ("centre", "low", "high"))
            info = json.loads(stored.attrs["info"])
            return cls(settings, int(stored.attrs["steps"]), state, states, centre, low, high, info)
        except (OSError, KeyError, TypeError, ValueError) as error:
            fault = f"it has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
            raise ValueError(f"{argument}: {str(path)!r} is not a saved run: {fault}") from None

    def to_arviz(self) -> Any:
        """Return the trace as ArviZ reads it: an ``xarray.DataTree`` with a group ``posterior`` (chain, draw, ...).

        Raises
        ------
        MissingExtraError
            If the extra ``arviz`` is not installed.
        ValueError
            If the run kept no trace, or holds several step sizes.
        """
        base = require("arviz_base", "arviz")
        self.check_one_step_size()
        return base.from_dict({"posterior": {"x": self.recorded.swapaxes(0, 1)}})
