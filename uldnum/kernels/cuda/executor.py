"""The CUDA executor of mixtures: chains on a GPU, one to a thread, many steps to a launch."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum.kernels import Problem, State, check_rows, split_seed
from uldnum.kernels.cuda.chains import chain_kernels
from uldnum.kernels.cuda.device import CuPy, Simulator, device, require_room
from uldnum.kernels.cuda.form import Form
from uldnum.typing import Array

__all__ = ["CudaExecutor", "Memory"]

# Numbers that the first launch of a run draws at most, and its steps: some milliseconds, also of a few chains.
FIRST, FIRST_STEPS = 100_000_000, 1000

# Order of the axes on the GPU, where neighbouring threads read neighbouring numbers: chains last.
LAYOUT = {"u": (0, 2, 3, 1), "xp": (0, 2, 3, 1), "sums": (0, 2, 1), "squares": (0, 2, 1), "nfe": (0, 1), "left": (0, 1)}


class Memory:
    """The state of a run on a GPU, with room for what kernels of some form need besides.

    Attributes
    ----------
    values : dict
        Its arrays, by the names that the kernels have for them.
    chains : int
        Chains of a group.
    form : Form
        As given.

    Raises
    ------
    ValueError
        If there is no room; the message says how many chains fit.
    """

    def __init__(self, here: CuPy | Simulator, state: State, form: Form) -> None:
        H, n = state.left.shape
        self.device, self.chains, self.form = here, n, form
        reals, gaps = (0, 0) if form.small else (form.far, form.d)
        bytes_each = H * (reals * state.xp.itemsize + gaps * 8)
        bytes_each += sum(getattr(state, name).nbytes for name in LAYOUT) // n
        require_room(here, n, bytes_each, state.counts.nbytes)
        self.values: dict[str, Any] = {
            self.parameter(name): here.array(getattr(state, name).transpose(axes)) for name, axes in LAYOUT.items()
        }
        self.values["counts"] = here.array(state.counts)
        self.values["reals"] = here.empty((H, reals, n), state.xp.dtype)
        self.values["gaps_of"] = here.empty((H, 1, gaps, n), np.float64)

    @staticmethod
    def parameter(name: str) -> str:
        """Return what the kernels call an array of the state."""
        return name if name in ("nfe", "left") else f"{name}_of"

    def fetch(self, state: State) -> None:
        """Bring the state up to date."""
        for name, axes in LAYOUT.items():
            fetched = self.device.host(self.values[self.parameter(name)])
            getattr(state, name)[...] = fetched.transpose(np.argsort(axes))
        state.counts[...] = self.device.host(self.values["counts"])


class CudaExecutor:
    """Runs a mixture on a GPU.

    The state stays there until `settle` fetches it.

    Parameters
    ----------
    problem : Problem
        Its target is a mixture.
    dtype : dtype
        float32 or float64.
    fast : bool
        float32 alone: the hardware's sine, cosine and power of 2, whose last bits differ from the CPU's.

    Raises
    ------
    MissingExtraError, RuntimeError
        If there is no way to a GPU; the message says what is missing.
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any], fast: bool = False) -> None:
        check_rows(problem.tables, "cuda")
        self.problem, self.dtype, self.fast = problem, dtype, fast
        self.device = device()
        self.info = {"device": self.device.name}
        tables, watch = problem.tables, problem.watch
        mixture = problem.kernel_data(dtype)
        if mixture is None:
            raise ValueError("problem: the target must be a mixture, with kernel_data")
        self.mixture = mixture
        k0, k1 = split_seed(problem.seed)
        constants = {name: getattr(tables, name) for name in ("G", "dA", "b", "C")}
        constants |= {name: getattr(watch, name) for name in ("centre", "low", "per_unit")}
        # Those have an axis more in the kernels, over phases of a plan.
        constants |= {name: part[None] for name, part in self.mixture._asdict().items()}
        constants |= {name: getattr(watch, name)[None] for name in ("least", "most")}
        self.values: dict[str, Any] = {name: self.device.array(array) for name, array in constants.items()}
        self.values |= {"first_chain": problem.first_chain, "k0": k0, "k1": k1}
        self.values |= {name: getattr(watch, name) for name in ("record_from", "bin_every", "thin")}
        self.memory: Memory | None = None

    def first_launch(self, state: State) -> int:
        """Steps that take some milliseconds."""
        return max(1, min(FIRST_STEPS, FIRST // state.u[..., 0, :].size))

    def load(self, state: State) -> Memory:
        """Bring the state to the GPU, once."""
        if self.memory is None:
            form = Form.of(self.problem.tables, self.mixture, self.fast, moments=state.sums.size > 0)
            self.memory = Memory(self.device, state, form)
            self.values |= self.memory.values
        return self.memory

    def launch(self, name: str, form: Form, state: State) -> None:
        """Run a kernel, a thread for each chain of each group."""
        H, n = state.left.shape
        self.device.launch(chain_kernels(form)[name], name, (n, H), self.values)

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        self.launch("enter", self.load(state).form, state)

    def advance(self, state: State, last: int) -> Array:
        """Go on to step ``last``, record what is watched, and read the last state; returns the positions kept."""
        form = self.load(state).form
        kept, trace = state.trace(self.problem.watch, last)
        step = state.step + 1
        self.values |= {"step": step, "last": last, "begin": form.begin(step), "kept": kept}
        self.values["trace"] = None  # its memory may be needed for the next
        self.values["trace"] = self.device.empty(trace.shape, self.dtype)
        self.launch("advance", form, state)
        self.device.wait()
        state.step = last
        return self.device.host(self.values["trace"])

    def settle(self, state: State) -> None:
        """Fetch the state from the GPU."""
        self.load(state).fetch(state)
