"""An executor that divides the chains of a run among several GPUs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.cuda.device import device, on_device
from uldnum.kernels.program import Executor, Program
from uldnum.kernels.state import BATCHES, State

__all__ = ["SplitExecutor", "cuts"]


def cuts(chains: int, parts: int, counted: bool) -> list[int]:
    """Return the edges of ``parts`` ranges of chains of about equal length.

    If histograms are ``counted``, the batches of a range must be batches of all chains. The edges of the batches of n
    chains repeat with the period n/g, where g is the greatest common divisor of n and the number of batches, so that
    the ranges consist of whole periods.
    """
    period = chains // math.gcd(chains, min(chains, BATCHES)) if counted else 1
    periods = chains // period
    if periods < parts:
        wanted = f"a multiple of {BATCHES}, for histograms on {parts} GPUs" if counted else f"at least {parts}"
        raise ValueError(f"chains: must be {wanted}, got {chains}; or give fewer devices")
    return [period * (part * periods // parts) for part in range(parts + 1)]


class SplitExecutor(Executor):
    """Executor that owns one executor for each GPU, with a range of the chains, and runs them in threads.

    The random numbers of a chain depend on its index, so the results have the same bits as on one GPU.

    Parameters
    ----------
    make : callable
        Returns the executor of a program on the current GPU.
    program : Program
        Program of all chains. Its targets are vectors.
    devices : sequence of int
        Numbers of the GPUs.
    chains : int
        Number of chains of each group.
    """

    def __init__(
        self, make: Callable[[Program], Executor], program: Program, devices: Sequence[int], chains: int
    ) -> None:
        edges = cuts(chains, len(devices), bool(np.any(program.recording.per_unit)))
        self.ranges, self.executors = list(pairwise(edges)), []
        for number, (lo, _) in zip(devices, self.ranges, strict=True):
            with on_device(number):
                self.executors.append(make(replace(program, first_chain=program.first_chain + lo)))
                device().wait()  # the current stream of this thread may not be that of the threads
        self.info = {"device": ", ".join(executor.info["device"] for executor in self.executors)}

    def each(self, call: Callable[[Executor, State], Any], state: State) -> list[Any]:
        """Call a function with every executor and its part of the state, in threads."""
        parts = [state.part(lo, hi) for lo, hi in self.ranges]
        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(call, self.executors, parts))

    def first_launch(self, state: State) -> int:
        """Return a number of steps that takes little time on every GPU."""
        return int(min(self.each(lambda executor, part: executor.first_launch(part), state)))

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``; see `uldnum.kernels.program.Executor.advance`."""
        traces = self.each(lambda executor, part: executor.advance(part, until), state)
        state.step = until
        return np.concatenate(traces, axis=2)

    def positions(self, state: State) -> Array:
        """Copy the positions at the end of the last step from the GPUs."""
        return np.concatenate(self.each(lambda executor, part: executor.positions(part), state), axis=1)

    def sync(self, state: State) -> None:
        """Copy the state back from the GPUs."""
        self.each(lambda executor, part: executor.sync(part), state)
