"""The class `uldnum.Run`: final states, statistics and settings of a set of chains, and their storage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import file_path, shown
from uldnum._util.extras import MissingExtraError, require
from uldnum._util.summary import COORDINATES, Described, Summary, counted, entries, selected, shown_of, with_error
from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER, RECORDS, Tables
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.sampling.moments import Moments, NotRecordedError, standard_error
from uldnum.sampling.settings import Settings
from uldnum.sampling.storage import FormatError, labelled, read, write
from uldnum.targets.mass import Mass

__all__ = ["Run", "Settings"]

# Largest number of step sizes in a summary.
LINES = 40


@dataclass(frozen=True, eq=False, repr=False)
class Run(Described):
    """Result of `uldnum.sample` or `uldnum.anneal`: final states, statistics and settings.

    The documentation of each property gives its shape for a single step size. If ``h`` was an array of shape (H,), all
    arrays except `edges` have an additional leading axis of length H. ``shape`` is the shape of one sample, (d,) for
    vectors. A property that the run did not record raises an error that is both a ValueError and an AttributeError, so
    ``hasattr(run, "covariance")`` states whether there is a covariance.

    Attributes
    ----------
    settings : Settings
        Arguments that determine the run, such as ``settings.chains`` and ``settings.seed``.
    steps : int
        Number of recorded steps that were requested.
    state : State
        State of the chains, from which the run can be resumed.
    kept : list of arrays
        Stored positions, each of shape (H or 1, chains, prod(shape)). `trace` returns them in the shape of the target.
    centre : float64 array, shape (d,)
        Centre of the accumulated moments.
    low, high : float64 arrays, shape (d,)
        Lower and upper end of the histogram of each axis.
    tables : Tables
        Coefficients of the integrator or plan.
    mixture : MixtureData or None
        Parameters of the mixture that the kernels used; None for other targets and for plans.
    info : dict
        How the run was computed: number of threads, GPU, array library, and whether a compiled score was vectorised.

    Examples
    --------
    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> run = uldnum.sample(normal, "BAOAB", h=[0.5, 1.0], steps=20, chains=8, thin=5, backend="array")
    >>> run
    Run of BAOAB on mixture: 8 chains, 20 steps, 21 evaluations per chain, complete
      h    mean         diverged
      0.5  0.09 ± 0.17  0
      1    0.10 ± 0.10  0
    >>> run.x.shape, run.trace.shape, run.covariance.shape
    ((2, 8, 1), (2, 4, 8, 1), (2, 1, 1))
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

    @property
    def summary(self) -> Summary:
        """Settings of the run, and the mean of the first coordinates at each step size; a plan has no step size."""
        s = self.settings
        steps = counted(self.steps, "step") + (f" after {s.burn_in} of burn-in" if s.burn_in else "")
        state = "complete" if self.complete else f"stopped after {counted(self.recorded_steps, 'step')}"
        if s.record and (s.record, s.record_every) != ("covariance", 1):
            state += f", {s.record} recorded every {counted(s.record_every, 'step') if s.record_every > 1 else 'step'}"
        name, values = typical(self)
        columns = {"h": [f"{h:g}" for h in s.h]} if any(s.h) else {}
        evaluations = counted(self.nfe, "evaluation")
        if s.metropolised:
            rates = zip(np.atleast_1d(self.acceptance), np.atleast_1d(self.acceptance_error), strict=True)
            columns["acceptance"] = [with_error(*rate) for rate in rates]
            evaluations += f" and {self.density_evaluations} of the log density"
        if self.records_momenta:
            temperatures = np.atleast_1d(self.kinetic_temperature, self.kinetic_temperature_error)
            columns["kinetic temperature"] = [with_error(*one) for one in zip(*temperatures, strict=True)]
        columns |= {name: values, "diverged": [str(count) for count in np.atleast_1d(self.diverged)]}
        rows, chosen = list(zip(*columns.values(), strict=True)), selected(len(s.h), LINES)
        part = shown_of(len(chosen), len(rows), "step size")
        return Summary(
            f"Run of {s.integrator}{s.conditions} on {s.target}: {counted(s.chains, 'chain')}, {steps}, "
            f"{evaluations} per chain, {state}{part}",
            list(columns),
            [rows[i] for i in chosen],
        )

    def each(self, array: Array) -> Array:
        """Return an array without its leading axis H if h was a number."""
        return array if self.settings.grouped else array[0]

    def positions(self, flat: Array) -> Array:
        """Return flat samples in the shape of the target."""
        return self.each(flat.reshape(*flat.shape[:-1], *self.settings.shape))

    @property
    def recorded_steps(self) -> int:
        """Number of recorded steps that were taken; less than ``steps`` if the run was stopped."""
        return max(0, self.state.step - self.settings.burn_in)

    @property
    def accumulated_steps(self) -> int:
        """Number of recorded steps at which moments were accumulated."""
        return -(-self.recorded_steps // self.settings.record_every)

    @property
    def complete(self) -> bool:
        """Whether all steps were taken."""
        return self.recorded_steps == self.steps

    @property
    def h(self) -> Array:
        """Step size in units of time (networks: in units of sigma), float or shape (H,); 0 for a plan."""
        return self.each(np.array(self.settings.h))

    @property
    def x(self) -> Array:
        """Positions at the end of the last step, shape (chains, *shape), in the dtype of the run."""
        return self.positions(self.state.phase_space[:, :, 0])

    @property
    def p(self) -> Array | None:
        """Momenta (or the second row of the state) at the end of the last step, shape (chains, *shape).

        None for integrators with one row, such as ULA.
        """
        return self.positions(self.state.phase_space[:, :, 1]) if self.state.phase_space.shape[2] > 1 else None

    @property
    def trace(self) -> Array | None:
        """Positions after every ``thin``-th recorded step, shape (draws, chains, *shape); None if none were stored.

        For a plan that was run with ``keep=True``, these are the positions after every phase.
        """
        return self.positions(np.stack(self.kept, axis=1)) if self.kept else None

    @property
    def recorded(self) -> Array:
        """The trace; raises an error if no positions were stored."""
        trace = self.trace
        if trace is None:
            raise NotRecordedError(
                "the run has no trace: pass thin (at most steps) to sample(), or keep=True to anneal()"
            )
        return trace

    def check_one_step_size(self) -> None:
        """Raise a ValueError if the run has several step sizes."""
        if self.settings.grouped:
            raise ValueError("run: must have a single step size, got an array h; sample each h separately")

    @property
    def nfe(self) -> int:
        """Number of score evaluations per chain, including burn-in."""
        return int(self.state.nfe.max())

    @property
    def density_evaluations(self) -> int:
        """Number of log density evaluations per chain, including burn-in; 0 without Metropolis tests.

        It is one per step and one at the start. On a mixture, and if the score function returns the log density, each
        of them is part of a score evaluation and adds nothing to the cost. Otherwise it adds one call of the log
        density.
        """
        if not self.settings.metropolised:
            return 0
        per_step = self.tables.normals.shape[-1] - 4  # scores; two stages, open and close evaluate none
        steps = max(0, self.nfe - 1) // per_step
        return steps + self.nfe - per_step * steps

    @property
    def diverged(self) -> Array:
        """Number of chains that diverged, int or shape (H,). The statistics are NaN where it is not 0."""
        return np.asarray(self.each((self.state.escape_step < NEVER).sum(axis=1)))

    @property
    def diverged_at(self) -> Array:
        """Step at which the first chain diverged, counted from the start of burn-in; -1 if none did."""
        first = self.state.escape_step.min(axis=1)
        return np.asarray(self.each(np.where(first < NEVER, first, -1)))

    # ---------------------------------------------------------------------------------------------------- statistics

    @property
    def acceptance(self) -> Array:
        """Fraction of the recorded steps that the Metropolis test accepted, float or shape (H,)."""
        return np.asarray(self.each(self.acceptances.mean(axis=1)))

    @property
    def acceptance_error(self) -> Array:
        """Standard error of `acceptance`, estimated from the variance between chains; NaN for one chain."""
        return np.asarray(self.each(standard_error(self.acceptances, axis=1)))

    @property
    def acceptances(self) -> Array:
        """Fraction of accepted recorded steps of each chain, shape (H, chains); NaN before the first recorded step."""
        if not self.settings.metropolised:
            raise NotRecordedError(
                f"the run has no acceptance: {self.settings.integrator} has no Metropolis test, and takes every step"
            )
        return self.state.accepted[..., 0] / (self.recorded_steps or np.nan)

    @property
    def records_momenta(self) -> bool:
        """Whether the run records moments of the momenta."""
        return RECORDS[self.settings.record][1] > 1

    @cached_property
    def accumulated(self) -> Moments:
        """Moments of all recorded coordinates of every chain, in which momenta are those for unit mass (`State`)."""
        if self.settings.record is None:
            raise NotRecordedError(
                f"the run on {self.settings.target!r} has no moments: images and plans do not record them; use run.x"
            )
        bad = (self.state.escape_step.min(axis=1) < NEVER)[:, None, None]
        share = 1 / self.accumulated_steps if self.recorded_steps else np.nan
        sums, products, weight = map(self.each, (self.state.sums, self.state.products, np.where(bad, np.nan, share)))
        centre = np.append(self.centre, np.zeros(len(self.centre) * self.records_momenta))
        return Moments(centre, sums, products, weight)

    @cached_property
    def moments(self) -> Moments:
        """First and second moments of the positions of every chain (`Moments`); NaN if a chain diverged."""
        return self.accumulated.leading(len(self.centre))

    @cached_property
    def phase_space_moments(self) -> Moments:
        """First and second moments of (x, p) of every chain, 2 d coordinates (`Moments`); NaN if a chain diverged."""
        mass, d = Mass.of(self.settings.mass, self.settings.shape), len(self.centre)
        found = replace(self.with_momenta, records=("phase-space-variance", "phase-space-covariance"))
        if mass is None:
            return found

        def linear(z: Array) -> Array:
            return np.concatenate([z[..., :d], mass.momenta(z[..., d:])], axis=-1)

        return found.mapped(linear, diagonal=mass.factor.shape[1] == 1)

    @property
    def with_momenta(self) -> Moments:
        """`accumulated`; raises an error if the run does not record momenta."""
        found = self.accumulated
        if not self.settings.momenta:
            raise NotRecordedError(f"the run has no momenta: {self.settings.integrator} has none")
        if not self.records_momenta:
            raise NotRecordedError("the run recorded no momenta; pass record='phase-space-variance' to sample()")
        return found

    @property
    def mean(self) -> Array:
        """Mean over chains and every ``record_every``-th recorded step, float64, shape (d,)."""
        return self.moments.mean

    @property
    def mean_error(self) -> Array:
        """Standard error of `mean`, estimated from the variance between chains; NaN for one chain."""
        return self.moments.mean_error

    @property
    def variance(self) -> Array:
        """Variance of each coordinate over the same chains and steps as `mean`, float64, shape (d,)."""
        return self.moments.variance

    @property
    def variance_error(self) -> Array:
        """Standard error of `variance`, estimated from the variance between chains; NaN for one chain."""
        return self.moments.variance_error

    @property
    def covariance(self) -> Array:
        """Covariance over the same chains and steps as `mean`, float64, shape (d, d)."""
        return self.moments.covariance

    @property
    def covariance_error(self) -> Array:
        """Standard error of `covariance`, estimated from the variance between chains; NaN for one chain."""
        return self.moments.covariance_error

    @property
    def momentum_mean(self) -> Array:
        """Mean of the momenta over the same chains and steps as `mean`, float64, shape (d,)."""
        return self.momenta_of("mean")

    @property
    def momentum_mean_error(self) -> Array:
        """Standard error of `momentum_mean`, estimated from the variance between chains; NaN for one chain."""
        return self.momenta_of("mean_error")

    @property
    def momentum_variance(self) -> Array:
        """Variance of each momentum over the same chains and steps as `mean`, float64, shape (d,)."""
        return self.momenta_of("variance")

    @property
    def momentum_variance_error(self) -> Array:
        """Standard error of `momentum_variance`, estimated from the variance between chains; NaN for one chain."""
        return self.momenta_of("variance_error")

    @property
    def momentum_covariance(self) -> Array:
        """Covariance of the momenta over the same chains and steps as `mean`, float64, shape (d, d)."""
        return self.momenta_of("covariance")[..., len(self.centre) :, :]

    @property
    def momentum_covariance_error(self) -> Array:
        """Standard error of `momentum_covariance`, estimated from the variance between chains; NaN for one chain."""
        return self.momenta_of("covariance_error")[..., len(self.centre) :, :]

    @property
    def position_momentum_covariance(self) -> Array:
        """Covariance of x_i and p_j over the same chains and steps as `mean`, float64, shape (d, d)."""
        return self.momenta_of("covariance")[..., : len(self.centre), :]

    @property
    def position_momentum_covariance_error(self) -> Array:
        """Standard error of `position_momentum_covariance`, estimated from the variance between chains."""
        return self.momenta_of("covariance_error")[..., : len(self.centre), :]

    def momenta_of(self, statistic: str) -> Array:
        """Return the entries of a statistic of (x, p) whose last index is that of a momentum."""
        return np.asarray(getattr(self.phase_space_moments, statistic)[..., len(self.centre) :])

    @property
    def kinetic_temperature(self) -> Array:
        """Kinetic temperature ``E[p.M^-1 p]/d`` over the same chains and steps as `mean`, float or shape (H,)."""
        return np.asarray(self.kinetic_temperatures.mean(axis=-1))

    @property
    def kinetic_temperature_error(self) -> Array:
        """Standard error of `kinetic_temperature`, estimated from the variance between chains; NaN for one chain."""
        return np.asarray(standard_error(self.kinetic_temperatures, axis=-1))

    @cached_property
    def kinetic_temperatures(self) -> Array:
        """Kinetic temperature of each chain, averaged over its steps, shape (chains,) or (H, chains)."""
        return np.asarray(self.with_momenta.square[..., len(self.centre) :].mean(axis=-1))

    @property
    def histogram(self) -> Array:
        """Histogram counts of each axis in batches of chains, int64, shape (batches, d, bins + 2).

        The first and last entry count the positions below and above the bins.
        """
        if not self.settings.bins:
            raise NotRecordedError("the run has no histograms: pass bins to sample()")
        return self.each(self.state.counts)

    @property
    def edges(self) -> Array:
        """Edges of the histogram bins of each axis, float64, shape (d, bins + 1)."""
        if not self.settings.bins:
            raise NotRecordedError("the run has no histograms: pass bins to sample()")
        return np.linspace(self.low, self.high, self.settings.bins + 1, axis=-1)

    # ------------------------------------------------------------------------------------------------------- storage

    def to_xarray(self) -> xr.Dataset:
        """Return the results of the run as a labelled dataset.

        Returns
        -------
        xarray.Dataset
            Variables ``x``, ``p`` and ``trace`` with dimensions (draw,) chain and ``dim`` (images: channel, row and
            column), ``mean``, ``mean_error``, ``covariance``, ``covariance_error`` (or ``variance`` and
            ``variance_error``, if the variance was recorded), the statistics of recorded momenta (``momentum_mean``,
            ``momentum_covariance`` or ``momentum_variance``, ``position_momentum_covariance``, and
            ``kinetic_temperature``) with their errors, ``histogram`` (counts in the bins, summed over chains),
            ``below`` and ``above`` (counts outside the bins), ``edges``, ``nfe`` and ``diverged``. Runs with a
            Metropolis test also have ``density_evaluations``, ``acceptance`` and ``acceptance_error``. Variables that
            the run did not record are absent. If ``h`` was an array, results have a leading dimension ``h``. The
            attributes are the settings of the run, with the units of h and of the friction.

        Examples
        --------
        >>> import uldnum
        >>> run = uldnum.sample("ring-8", "BAOAB", h=[0.1, 0.2], steps=20, chains=8, thin=5, backend="array")
        >>> data = run.to_xarray()
        >>> data.trace.dims, data.draw.values.tolist()
        (('h', 'draw', 'chain', 'dim'), [5, 10, 15, 20])
        >>> data["mean"].sel(h=0.2).shape, data.integrator, data.units
        ((2,), 'BAOAB', 'h in units of time, friction in units of 1/time')
        """
        return labelled(self)

    def save(self, path: str | Path) -> None:
        """Write the run to a NetCDF file or a Zarr folder, atomically.

        Parameters
        ----------
        path : str or Path
            Name that ends in ``.nc`` (NetCDF) or ``.zarr`` (Zarr, needs the extra ``zarr``). An existing file is
            replaced only after the new one is complete.

        Raises
        ------
        ValueError
            If the suffix is neither ``.nc`` nor ``.zarr``, or if no file can be created there.
        OSError
            If the file cannot be written.

        Notes
        -----
        The file holds the dataset of `to_xarray`, which `xarray.open_dataset` reads, and a group ``resume`` with the
        state of the chains, the settings and a hash. `load` reads ``x``, ``p`` and ``trace`` and the group, and ignores
        everything else in the file; the trace is stored once.
        """
        write(self, self.to_xarray(), file_path("path", path))

    @classmethod
    def load(cls, path: str | Path, argument: str = "path") -> Run:
        """Read a run that `save` wrote.

        Parameters
        ----------
        path : str or Path
            Name of the file or folder.
        argument : str, default "path"
            Name of the argument in error messages.

        Returns
        -------
        Run
            The saved run, which ``uldnum.sample(..., resume=run)`` can resume.

        Raises
        ------
        ValueError
            If the file is not a saved run, was saved in another format, or was damaged or altered. The message names
            the file and the array.
        """
        path = file_path(argument, path)
        try:
            return cls(**read(path))
        except MissingExtraError:
            raise
        except FormatError as error:
            raise ValueError(f"{argument}: {shown(str(path))} {error}; repeat the run") from None
        except Exception as error:  # libraries raise exceptions of any class for a damaged file
            fault = str(error).partition("\n")[0] or type(error).__name__
            raise ValueError(f"{argument}: {shown(str(path))} is not a saved run: {fault}") from None

    def to_arviz(self) -> Any:
        """Return the trace in the format of ArviZ.

        Returns
        -------
        xarray.DataTree
            Its group ``posterior`` has a variable ``x``, whose dimensions are chain, draw and those of one sample.

        Raises
        ------
        MissingExtraError
            If the extra ``arviz`` is not installed.
        ValueError
            If the run has no trace, or several step sizes.
        """
        base = require("arviz_base", "arviz")
        self.check_one_step_size()
        return base.from_dict({"posterior": {"x": self.recorded.swapaxes(0, 1)}})


@np.errstate(all="ignore")  # positions of diverged chains may overflow
def typical(run: Run) -> tuple[str, list[str]]:
    """Return the name of the statistic that a summary shows, and its values for each step size as text.

    For vectors, the statistic is `mean` with its standard error, or the mean of the last positions if the run has no
    moments. For images, it is the mean and the standard deviation of all values of the last positions.
    """
    last = run.state.phase_space[:, :, 0]
    if len(run.settings.shape) > 1:
        return "last values", [f"mean {x.mean(dtype=float):.3g}, deviation {x.std(dtype=float):.3g}" for x in last]
    few = slice(COORDINATES + 1)  # means of all coordinates of many chains would take long
    if run.settings.record is None:
        name, last = "mean of the last positions", last[..., few]
        mean, error = last.mean(axis=1, dtype=float), standard_error(last, axis=1)
    else:
        name, part = "mean", replace(run.moments, centre=run.centre[few], sums=run.moments.sums[..., few])
        mean, error = np.atleast_2d(part.mean, part.mean_error)
    return name, [entries(*pair) for pair in zip(mean, error, strict=True)]
