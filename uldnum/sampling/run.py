"""What a run returns: final states and statistics, stored and resumed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import file_path, shown
from uldnum._util.extras import MissingExtraError, require
from uldnum._util.files import load, store
from uldnum._util.names import printable
from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER, Tables
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.sampling.moments import Moments
from uldnum.sampling.settings import Settings
from uldnum.sampling.storage import pack, unpack

__all__ = ["Run", "Settings"]


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
    kept : list of arrays
        Recorded positions, shape (H, chains, d) each.
    centre, low, high : float64 arrays, shape (d,)
        What the moments are taken about, and the range of the histograms.
    tables : Tables
        The coefficients that the steps were taken with.
    mixture : MixtureData or None
        The target as the kernels read it, if it is a mixture at one noise level.
    info : dict
        How it was run: threads, whether a user's score ran on vectors, the GPU, the library of arrays.
    """

    settings: Settings
    steps: int
    state: State
    kept: list[Array]
    centre: Array
    low: Array
    high: Array
    tables: Tables
    mixture: MixtureData | None
    info: dict[str, str]

    def __repr__(self) -> str:
        """Say what was run, not all its numbers."""
        s = self.settings
        done = "" if self.complete else f", {self.recorded_steps} done"
        h = f"h={list(s.h) if s.grouped else s.h[0]}, " if any(s.h) else ""  # a plan has its own
        return (
            f"Run({printable(s.integrator)} on {printable(s.target)}, {h}{s.chains} chains, {self.steps} steps{done})"
        )

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
        return self.positions(self.state.phase_space[:, :, 0])

    @property
    def p(self) -> Array | None:
        """Momenta at the same time, or whatever the scheme keeps in its second row; None if it keeps nothing."""
        return self.positions(self.state.phase_space[:, :, 1]) if self.state.phase_space.shape[2] > 1 else None

    @property
    def trace(self) -> Array | None:
        """Positions every ``thin`` recorded steps, shape (recorded, chains, *shape); None if not asked for."""
        return self.positions(np.stack(self.kept, axis=1)) if self.kept else None

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
        return np.asarray(self.each((self.state.escape_step < NEVER).sum(axis=1)))

    @property
    def diverged_at(self) -> Array:
        """Step at which the first chain diverged, burn-in included; -1 where none did."""
        first = self.state.escape_step.min(axis=1)
        return np.asarray(self.each(np.where(first < NEVER, first, -1)))

    # ---------------------------------------------------------------------------------------------------- statistics

    @cached_property
    def moments(self) -> Moments:
        """First and second moments of every chain."""
        if not self.state.sums.size:
            raise ValueError(f"the run on {self.settings.target!r} keeps no moments, as images and plans do; use run.x")
        bad = (self.state.escape_step.min(axis=1) < NEVER)[:, None, None]
        share = 1 / self.recorded_steps if self.recorded_steps else np.nan
        first, second = (
            self.each(np.where(bad, np.nan, part * share)) for part in (self.state.sums, self.state.products)
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
        return pack(self)

    def save(self, path: str | Path) -> None:
        """Write the run to a file ``.nc`` (NetCDF) or a folder ``.zarr``, atomically."""
        store(self.to_xarray(), file_path("path", path))

    @classmethod
    def load(cls, path: str | Path, argument: str = "path") -> Run:
        """Read a run that `save` wrote; errors name the argument.

        Raises
        ------
        ValueError
            If the file is not a saved run, was damaged or altered; the message names the file and the array.
        """
        path = file_path(argument, path)
        try:
            return cls(**unpack(load(path)))
        except MissingExtraError:
            raise
        except Exception as error:  # the libraries that read a damaged file raise errors of any class
            fault = str(error).partition("\n")[0] or type(error).__name__
            raise ValueError(f"{argument}: {shown(str(path))} is not a saved run: {fault}") from None

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
