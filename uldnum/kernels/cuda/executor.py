"""The CUDA executor of mixtures: chains on a GPU, one to a thread, many steps to a launch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from uldnum.kernels.core import Tables, phase
from uldnum.kernels.cuda.chains import Coefficients, Far, chain_kernel
from uldnum.kernels.cuda.device import device, require_room
from uldnum.kernels.cuda.form import ChainForm
from uldnum.kernels.mixture import MixtureData
from uldnum.kernels.program import MOST, Chains, Launch, Part, Program
from uldnum.kernels.state import State
from uldnum.typing import Array

__all__ = ["CudaExecutor", "forms"]

# Terms of scores that the first launch of a run takes at most, some milliseconds; fewer chains than these leave the GPU
# idle, and take as long.
FIRST, FEWEST = 1_000_000_000, 100_000

# Order of the axes on the GPU, where neighbouring threads read neighbouring numbers: chains last.
LAYOUT = {
    "u": (0, 2, 3, 1), "phase_space": (0, 2, 3, 1), "sums": (0, 2, 1), "products": (0, 2, 1), "counts": (0, 1, 2, 3),
    "escape_step": (0, 1), "nfe": (0, 1),
}  # fmt: skip


def forms(t: Tables, mixture: MixtureData, fast: bool, moments: bool, records: bool) -> list[ChainForm]:
    """Return what the kernel of every phase is compiled for."""
    return [ChainForm.of(phase(t, 0, number), mixture, fast, moments, records) for number in range(len(t.per_step))]


class CudaExecutor:
    """Runs mixtures on a GPU: neighbouring phases that are compiled to the same kernel in one launch.

    The state stays there until `sync` fetches it.

    Parameters
    ----------
    program : Program
        Its targets are mixtures.
    fast : bool
        float32 alone: the hardware's sine, cosine and power of 2, whose last bits differ from the CPU's.

    Raises
    ------
    MissingExtraError, RuntimeError
        If there is no way to a GPU; the message says what is missing.
    """

    def __init__(self, program: Program, fast: bool = False) -> None:
        program.check_compiled("cuda")
        self.program = program
        self.device = device()
        self.info = {"device": self.device.name}
        mixture, recording = program.targets.mixtures(0, 1), program.recording
        if mixture is None:
            raise ValueError("program: the targets must be mixtures, with kernel_data")
        self.terms, records = mixture.terms, bool(recording.thin or np.any(recording.per_unit))
        self.forms = forms(program.tables, mixture, fast, recording.moments, records)
        axes = ("centre", "low", "per_unit")
        there = {name: self.device.array(getattr(recording, name)) for name in axes}
        self.recording = recording._replace(**there)
        self.memory: tuple[Chains, Far] | None = None

    def first_launch(self, state: State) -> int:
        """Return the steps that take some milliseconds, also of a few chains."""
        return max(1, FIRST // (max(state.escape_step.size, FEWEST) * self.terms))

    def advance(self, state: State, until: int) -> Array:
        """Go on to step ``until``, record, and read the last state; returns the positions kept."""
        chains, far = self.load(state)
        kept, trace = state.trace(self.program.recording, until)
        chains = chains._replace(kept=kept, trace=self.device.empty(trace.shape, self.program.dtype))
        for form, parts in groupby(self.program.parts(state.step, until), key=lambda part: self.forms[part.phase]):
            same = list(parts)
            most = max(1, MOST // self.terms)
            for begin in range(0, len(same), most):
                launch = self.launch_of(form, same[begin : begin + most])
                values = {"chains": chains, "far": far, "launch": launch}
                self.device.launch(chain_kernel(form), state.escape_step.shape[::-1], values)
        self.device.wait()
        state.step = until
        return self.device.host(chains.trace)

    def launch_of(self, form: ChainForm, parts: Sequence[Part]) -> Launch:
        """Return parts of phases of one form, with their tables and mixtures, on the GPU."""
        program, array = self.program, self.device.array
        begin, end = parts[0].phase, parts[-1].phase + 1
        _, first, last, before = np.array(parts).T
        groups = [
            phase(program.tables, g, number) for g in range(len(program.tables.b)) for number in range(begin, end)
        ]
        least, most = program.targets.bounds(begin, end)
        mixtures: Any = program.targets.mixtures(begin, end)
        return Launch(
            tables=Coefficients(
                *(array(np.stack([getattr(t, part) for t in groups])) for part in Coefficients._fields)
            ),
            phase=0,
            target=MixtureData(*map(array, mixtures)),
            least=array(least),
            most=array(most),
            keys=array(program.keys[begin:end]),
            first=array(first),
            last=array(last),
            begin=array(np.array([form.begin(int(step)) for step in first])),
            before=array(before),
            recording=self.recording,
            first_chain=program.first_chain,
        )

    def load(self, state: State) -> tuple[Chains, Far]:
        """Bring the state to the GPU, once, with room for what the kernels need besides."""
        if self.memory is None:
            (H, n), here = state.escape_step.shape, self.device
            form = max(self.forms, key=lambda form: form.far)
            reals, gaps = (0, 0) if form.small else (form.far, form.d)
            dtype, arrays = self.program.dtype, {name: getattr(state, name) for name in LAYOUT}
            shared = state.counts.nbytes
            bytes_each = H * (reals * dtype.itemsize + gaps * 8)
            bytes_each += (sum(array.nbytes for array in arrays.values()) - shared) // n
            require_room(here, n, bytes_each, shared)
            there = {name: here.array(array.transpose(LAYOUT[name])) for name, array in arrays.items()}
            chains = Chains(**there, trace=here.empty((0, H, n, form.d), dtype), kept=0)
            self.memory = chains, Far(here.empty((H, reals, n), dtype), here.empty((H, 1, gaps, n), float))
        return self.memory

    def sync(self, state: State) -> None:
        """Fetch the state from the GPU."""
        chains, _ = self.load(state)
        for name, axes in LAYOUT.items():
            getattr(state, name)[...] = self.device.host(getattr(chains, name)).transpose(np.argsort(axes))
