"""The CUDA executor of mixtures: one chain per thread, many steps per launch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.cuda.chains import Coefficients, Far, chain_kernel
from uldnum.kernels.cuda.device import device, require_room
from uldnum.kernels.cuda.form import ChainForm
from uldnum.kernels.program import MAX_COEFFICIENTS, Executor, Part, Program
from uldnum.kernels.source.chain import Chains, Launch
from uldnum.kernels.source.core import Tables, phase
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State

__all__ = ["CudaExecutor", "forms"]

# Maximum numbers of score terms and of steps in the first launch, which takes some milliseconds. A launch with fewer
# chains than FEW_CHAINS takes as long as one with this many.
FIRST_TERMS, FIRST_STEPS, FEW_CHAINS = 1_000_000_000, 1000, 100_000

# Order of the axes on the GPU. Chains are last, so that neighbouring threads access neighbouring numbers.
LAYOUT = {
    "u": (0, 2, 3, 1), "phase_space": (0, 2, 3, 1), "sums": (0, 2, 1), "products": (0, 2, 1), "counts": (0, 1, 2, 3),
    "escape_step": (0, 1), "nfe": (0, 1),
}  # fmt: skip


def forms(t: Tables, mixture: MixtureData, fast: bool, moments: int, records: bool, frame: int = 0) -> list[ChainForm]:
    """Return the form of the kernel of every phase."""
    kind = mixture, fast, moments, records, frame
    return [ChainForm.of(phase(t, 0, number), *kind) for number in range(len(t.per_step))]


class CudaExecutor(Executor):
    """Executor of mixtures on a GPU, which runs neighbouring phases of the same kernel form in one launch.

    The state stays on the GPU until `sync` copies it back.

    Parameters
    ----------
    program : Program
        Its targets are mixtures.
    fast : bool
        Whether the hardware computes sine, cosine and powers of 2 (float32 only). The last bits then differ from the
        CPU's.

    Raises
    ------
    MissingExtraError, RuntimeError
        If no GPU is usable; the message states the reason.
    """

    def __init__(self, program: Program, fast: bool = False) -> None:
        program.check_compiled("cuda")
        if program.metropolised:
            raise ValueError("backend: 'cuda' does not support Metropolis tests; use 'numba'")
        self.program = program
        self.device = device()
        self.info = {"device": self.device.name}
        mixture, recording = program.targets.mixtures(0, 1), program.recording
        if mixture is None:
            raise ValueError("program: the targets must be mixtures, with kernel_data")
        self.terms, self.numbers = mixture.terms, sum(part.size for part in mixture)
        records = bool(recording.thin or np.any(recording.per_unit))
        columns = recording.frame.shape[1]
        self.forms = forms(program.tables, mixture, fast, recording.moments, records, columns)
        axes = ("centre", "low", "per_unit", "frame")
        there = {name: self.device.array(getattr(recording, name)) for name in axes}
        self.recording = recording._replace(**there)
        self.uploaded = lru_cache(1)(self.upload)  # a run of one phase has many launches with the same tables
        self.memory: tuple[Chains, Far] | None = None

    def first_launch(self, state: State) -> int:
        """Return a number of steps that takes some milliseconds."""
        steps = FIRST_TERMS // (max(state.escape_step.size, FEW_CHAINS) * self.terms)
        return max(1, min(FIRST_STEPS, steps))

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``; see `uldnum.kernels.program.Executor.advance`."""
        chains, far = self.load(state)
        kept, trace = state.trace(self.program.recording, until)
        chains = chains._replace(kept=kept, trace=self.device.empty(trace.shape, self.program.dtype))
        for form, parts in groupby(self.program.parts(state.step, until), key=lambda part: self.forms[part.phase]):
            same = list(parts)
            most = 1 if form.single_part else max(1, MAX_COEFFICIENTS // self.numbers)
            for begin in range(0, len(same), most):
                launch = self.launch_of(form, same[begin : begin + most])
                values = {"chains": chains, "far": far, "launch": launch}
                if form.single_part and same[begin].first == 1:
                    self.device.launch(chain_kernel(form, True), state.escape_step.shape[::-1], values)
                self.device.launch(chain_kernel(form), state.escape_step.shape[::-1], values)
        self.device.wait()
        state.step = until
        return self.device.host(chains.trace)

    def launch_of(self, form: ChainForm, parts: Sequence[Part]) -> Launch:
        """Return the arguments of a launch of parts with a common form; arrays are on the GPU."""
        tables, mixtures, least, most = self.uploaded(parts[0].phase, parts[-1].phase + 1)
        keys: Any = self.program.keys[parts[0].phase : parts[-1].phase + 1]
        _, first, last, before = np.array(parts).T
        steps = first, last, np.array([form.begin(int(step)) for step in first]), before
        first, last, begin, before = ((of[0] if form.single_part else self.device.array(of)) for of in steps)
        return Launch(
            tables=tables,
            phase=0,
            target=mixtures,
            least=least,
            most=most,
            keys=tuple(keys[0]) if form.single_part else self.device.array(keys),
            first=first,
            last=last,
            begin=begin,
            before=before,
            recording=self.recording,
            first_chain=self.program.first_chain,
        )

    def upload(self, begin: int, end: int) -> tuple[Any, ...]:
        """Copy the tables, mixtures and divergence bounds of phases begin ... end - 1 to the GPU."""
        program, array = self.program, self.device.array
        groups = [
            phase(program.tables, g, number) for g in range(len(program.tables.b)) for number in range(begin, end)
        ]
        tables = Coefficients(*(array(np.stack([getattr(t, part) for t in groups])) for part in Coefficients._fields))
        mixtures: Any = program.targets.mixtures(begin, end)
        bounds = program.targets.bounds(begin, end)
        return tables, MixtureData(*map(array, mixtures)), *map(array, bounds)

    def load(self, state: State) -> tuple[Chains, Far]:
        """Copy the state to the GPU at the first call, and allocate scratch memory for the kernels."""
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
            chains = Chains(**there, carried=0, trace=here.empty((0, H, n, form.d), dtype), kept=0)
            self.memory = chains, Far(here.empty((H, reals, n), dtype), here.empty((H, gaps, n), float))
        return self.memory

    def sync(self, state: State) -> None:
        """Copy the state back from the GPU."""
        chains, _ = self.load(state)
        for name, axes in LAYOUT.items():
            getattr(state, name)[...] = self.device.host(getattr(chains, name)).transpose(np.argsort(axes))
