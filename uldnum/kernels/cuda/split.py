"""An executor that divides the chains of a run among several GPUs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from operator import methodcaller
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.cuda.device import device, on_device
from uldnum.kernels.program import ChangedTargets, Executor, Program
from uldnum.kernels.state import BATCHES, State

__all__ = ["SplitExecutor", "cuts"]


def cuts(chains: int, parts: int, counted: bool, chunk: int = 1) -> list[int]:
    """Return the edges of ``parts`` ranges of chains of about equal length.

    If histograms are ``counted``, the batches of a range must be batches of all chains. The edges of the batches of n
    chains repeat with the period n/g, where g is the greatest common divisor of n and the number of batches, so that
    the ranges consist of whole periods. Otherwise the period is ``chunk``, the number of samples whose scores are
    computed together, and the last one may be shorter.
    """
    period = chains // math.gcd(chains, min(chains, BATCHES)) if counted else chunk
    periods = -(-chains // period)
    if periods < parts:
        wanted = f"at least {chunk * (parts - 1) + 1}"
        if counted:
            wanted = f"a multiple of {BATCHES}, for histograms on {parts} GPUs"
        elif chunk > 1:
            wanted = f"{wanted}, for {parts} GPUs that evaluate {chunk} images at once (chunk={chunk})"
        raise ValueError(f"chains: must be {wanted}, got {chains}; or give fewer devices")
    return [min(chains, period * (part * periods // parts)) for part in range(parts + 1)]


class SplitExecutor(Executor):
    """Executor that owns one executor for each GPU, with a range of the chains, and runs them in threads.

    The random numbers of a chain depend on its index, so the results have the same bits as on one GPU. A network
    evaluates the same images together as on one GPU.

    Parameters
    ----------
    make : callable
        Returns the executor of a program on the current GPU.
    program : Program
        Program of all chains. Its targets are vectors, or images with the ability ``on_gpu``.
    devices : sequence of int
        Numbers of the GPUs.
    chains : int
        Number of chains of each group.
    """

    def __init__(
        self, make: Callable[[Program], Executor], program: Program, devices: Sequence[int], chains: int
    ) -> None:
        if len(devices) > 1 and any(rule is not None and rule.coupled for rule in program.rules):
            raise ValueError("devices: must be one GPU for coupled step sizes, which are averages over all chains")
        images = len(program.shape) > 1
        chunk = program.targets.target(0).chunk if images else 1
        edges = cuts(chains, len(devices), bool(np.any(program.recording.per_unit)), chunk)
        self.devices, self.ranges, self.executors = devices, list(pairwise(edges)), []
        for number, (lo, _) in zip(devices, self.ranges, strict=True):
            part = replace(program, first_chain=program.first_chain + lo)
            if images:
                copies: dict[Any, Any] = {}
                part = replace(part, targets=ChangedTargets(program.targets, methodcaller("on_gpu", number, copies)))
            with on_device(number):
                self.executors.append(make(part))
                device().wait()  # the current stream of this thread may not be that of the threads
        self.info = {"device": ", ".join(executor.info["device"] for executor in self.executors)}

    def each(self, call: Callable[[Executor, State], Any], state: State) -> list[Any]:
        """Call a function with every executor and its part of the state, in threads."""
        parts = [state.part(lo, hi) for lo, hi in self.ranges]

        def on_own(number: int, executor: Executor, part: State) -> Any:
            with on_device(number):  # on which a network allocates its arrays
                return call(executor, part)

        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(on_own, self.devices, self.executors, parts))

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
