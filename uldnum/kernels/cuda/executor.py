"""The CUDA executor of vectors: one chain per thread, many steps per launch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.cuda.chains import Coefficients, Far, chain_kernel
from uldnum.kernels.cuda.device import device, require_room
from uldnum.kernels.cuda.form import ChainForm, MixtureForm, UserForm
from uldnum.kernels.cuda.users import UserData, check_compiles, kind_of
from uldnum.kernels.program import MAX_COEFFICIENTS, Executor, Part, Program
from uldnum.kernels.source.chain import Carried, Chains, Launch
from uldnum.kernels.source.core import phase
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State

__all__ = ["CudaExecutor", "forms", "score_form"]

# Maximum numbers of score terms and of steps in the first launch, which takes some milliseconds. A launch with fewer
# chains than FEW_CHAINS takes as long as one with this many.
FIRST_TERMS, FIRST_STEPS, FEW_CHAINS = 1_000_000_000, 1000, 100_000

# Assumed cost of a user's score, which is unknown, per coordinate and in units of one score term.
USER_SCORE_COST = 64

# Order of the axes on the GPU. Chains are last, so that neighbouring threads access neighbouring numbers.
LAYOUT = {
    "u": (0, 2, 3, 1), "phase_space": (0, 2, 3, 1), "sums": (0, 2, 1), "products": (0, 2, 1), "counts": (0, 1, 2, 3),
    "escape_step": (0, 1), "nfe": (0, 1),
}  # fmt: skip
CARRIED = dict.fromkeys(Carried._fields, (0, 2, 1))


def score_form(program: Program, number: int) -> MixtureForm | UserForm:
    """Return the form of the score of a phase."""
    mixture = program.targets.mixtures(number, number + 1)
    if mixture is not None:
        return MixtureForm.of(mixture)
    target = program.targets.target(number)
    density = target.compiled_log_density if program.metropolised else None
    kinds, doubles = (tuple(map(kind_of, target.score_arguments(kind))) for kind in (program.dtype, np.dtype(float)))
    columns = 0 if target.frame is None else target.frame.shape[1]
    return UserForm(program.shape[0], target.compiled_score, kinds, min(2, columns), density, doubles)


def forms(program: Program, fast: bool) -> list[ChainForm]:
    """Return the form of the kernel of every phase of a program."""
    tables, w = program.tables, program.recording
    kind = fast, w.moments, bool(w.thin or np.any(w.per_unit)), w.frame.shape[1], w.rows
    return [ChainForm.of(phase(tables, 0, p), score_form(program, p), *kind) for p in range(len(program.counts))]


class CudaExecutor(Executor):
    """Executor of vectors on a GPU, which runs neighbouring phases of the same kernel form in one launch.

    The state stays on the GPU until `sync` copies it back.

    Parameters
    ----------
    program : Program
        Its targets are mixtures, or have a score that Numba compiles.
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
        self.program = program
        self.device = device()
        self.info = {"device": self.device.name}
        mixture, recording, self.forms = program.targets.mixtures(0, 1), program.recording, forms(program, fast)
        for form in self.forms:
            if isinstance(form.score, UserForm):
                check_compiles(form.score, program.dtype, form.small)
        self.terms = USER_SCORE_COST * program.shape[0] if mixture is None else mixture.terms
        self.numbers = 0 if mixture is None else sum(part.size for part in mixture)
        axes = ("centre", "low", "per_unit", "frame")
        there = {name: self.device.array(getattr(recording, name)) for name in axes}
        self.recording = recording._replace(**there)
        self.uploaded = lru_cache(1)(self.upload)  # a run of one phase has many launches with the same tables
        self.carried = CARRIED if program.metropolised else {}
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
        tables, target, least, most = self.uploaded(parts[0].phase, parts[-1].phase + 1)
        keys: Any = self.program.keys[parts[0].phase : parts[-1].phase + 1]
        _, first, last, before = np.array(parts).T
        steps = first, last, np.array([form.begin(int(step)) for step in first]), before
        first, last, begin, before = ((of[0] if form.single_part else self.device.array(of)) for of in steps)
        return Launch(
            tables=tables,
            phase=0,
            target=target,
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
        """Copy the tables, data of the targets and divergence bounds of phases begin ... end - 1 to the GPU."""
        program, array = self.program, self.device.array
        groups = [
            phase(program.tables, g, number) for g in range(len(program.tables.b)) for number in range(begin, end)
        ]
        tables = Coefficients(*(array(np.stack([getattr(t, part) for t in groups])) for part in Coefficients._fields))
        bounds = program.targets.bounds(begin, end)
        return tables, self.target_of(begin, end), *map(array, bounds)

    def target_of(self, begin: int, end: int) -> MixtureData | UserData:
        """Copy the mixtures of phases begin ... end - 1, or the data of a user's score, to the GPU."""

        def there(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(there, value))
            return self.device.array(value) if isinstance(value, np.ndarray) else value

        program = self.program
        mixtures = program.targets.mixtures(begin, end)
        if mixtures is not None:
            return MixtureData(*map(self.device.array, mixtures))
        target, dtype = program.targets.target(begin), program.dtype
        frame = np.empty((program.shape[0], 0)) if target.frame is None else target.frame
        arguments, doubles = (there(target.score_arguments(kind)) for kind in (dtype, np.dtype(float)))
        return UserData(self.device.array(frame.astype(dtype)), arguments, doubles)

    def load(self, state: State) -> tuple[Chains, Far]:
        """Copy the state to the GPU at the first call, and allocate scratch memory for the kernels."""
        if self.memory is None:
            (H, n), here = state.escape_step.shape, self.device
            form = max(self.forms, key=lambda form: form.far)
            reals, gaps = (0, 0) if form.small else (form.far, form.recorded)
            dtype, arrays = self.program.dtype, {name: getattr(state, name) for name in LAYOUT | self.carried}
            shared = state.counts.nbytes
            bytes_each = H * (reals * dtype.itemsize + gaps * 8)
            bytes_each += (sum(array.nbytes for array in arrays.values()) - shared) // n
            require_room(here, n, bytes_each, shared)
            there, carried = (
                {name: here.array(arrays[name].transpose(axes)) for name, axes in layout.items()}
                for layout in (LAYOUT, self.carried)
            )
            trace = here.empty((0, H, n, form.d), dtype)
            chains = Chains(**there, carried=Carried(**carried) if carried else 0, trace=trace, kept=0)
            self.memory = chains, Far(here.empty((H, reals, n), dtype), here.empty((H, gaps, n), float))
        return self.memory

    def positions(self, state: State) -> Array:
        """Copy the positions at the end of the last step from the GPU."""
        chains, _ = self.load(state)
        return self.device.host(chains.phase_space[:, 0]).swapaxes(1, 2)

    def sync(self, state: State) -> None:
        """Copy the state back from the GPU."""
        chains, _ = self.load(state)
        for name, axes in (LAYOUT | self.carried).items():
            found = getattr(chains.carried if name in CARRIED else chains, name)
            getattr(state, name)[...] = self.device.host(found).transpose(np.argsort(axes))
