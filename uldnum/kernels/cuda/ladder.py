"""Many noise levels of a mixture in one launch on a GPU."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from uldnum.kernels import Layout, Passage, State, check_rows
from uldnum.kernels.core import phase
from uldnum.kernels.cuda.chains import chain_kernels
from uldnum.kernels.cuda.device import device
from uldnum.kernels.cuda.executor import Memory
from uldnum.kernels.cuda.form import Form
from uldnum.kernels.mixture import MixtureData

__all__ = ["CudaLadder", "forms"]

# Terms of the score that the first launch of a run takes at most: some hundredths of a second.
FIRST = 10_000_000_000

# Numbers that a phase draws, beyond which it is not taken together with others: about a second.
LONG = 10_000_000_000

# Fewer chains than these leave the GPU idle, and take as long.
FEWEST = 100_000


def forms(layout: Layout, mixture: MixtureData, fast: bool) -> list[Form]:
    """Return the form of every phase."""
    phases = (phase(layout.tables, layout.stages, p) for p in range(len(layout.counts)))
    return [Form.of(tables, mixture, fast, moments=False) for tables in phases]


class CudaLadder:
    """Runs phases on a GPU: neighbours that are compiled to the same kernel in one launch.

    The state stays there until `settle` fetches it.

    Parameters
    ----------
    passage : Passage
        The phases.
    fast : bool
        As of `CudaExecutor`.

    Raises
    ------
    MissingExtraError, RuntimeError
        If there is no way to a GPU; the message says what is missing.
    """

    def __init__(self, passage: Passage, fast: bool = False) -> None:
        self.passage = passage
        check_rows(passage.layout.tables, "cuda")
        self.device = device()
        self.info = {"device": self.device.name}
        self.forms = forms(passage.layout, passage.mixture.kernel_data(passage.dtype), fast)
        centre = self.device.array(np.zeros(passage.mixture.shape))
        self.constants = {"first_chain": passage.first_chain, "centre": centre}
        self.memory: Memory | None = None
        self.step = 0  # at which the state in that memory is

    def longest(self, state: State) -> float:
        """Steps of a phase that take about a second."""
        return self.passage.longest(state, FEWEST, LONG)

    def first_launch(self, state: State) -> int:
        """Phases that take some hundredths of a second."""
        return self.passage.first_launch(state, FEWEST, FIRST)

    def climb(self, state: State, first: int, last: int) -> None:
        """Take every chain through phases first ... last - 1."""
        if self.memory is None or self.step != state.step:  # others have taken the state further
            self.memory = None  # its room may be needed
            self.memory = Memory(self.device, state, max(set(self.forms), key=lambda form: form.far))
        for form, phases in groupby(range(first, last), key=self.forms.__getitem__):
            same = list(phases)
            for begin, end in self.passage.pieces(same[0], same[-1] + 1):
                self.launch(self.memory, form, begin, end)
        self.device.wait()
        self.step = state.step = int(self.passage.layout.ends[last - 1])

    def launch(self, memory: Memory, form: Form, first: int, last: int) -> None:
        """Take all chains through phases of one form."""
        passage, layout = self.passage, self.passage.layout
        tables = [phase(layout.tables, layout.stages, p) for p in range(first, last)]
        parts = {name: np.stack([getattr(t, name) for t in tables]) for name in ("G", "dA", "b", "C")}
        parts |= passage.mixtures(first, last)._asdict()
        parts |= {"steps": layout.counts[first:last], "before": layout.before[first:last]}
        parts |= {name: getattr(passage, name)[first:last] for name in ("keys", "least", "most")}
        values = {name: self.device.array(part) for name, part in parts.items()}
        self.device.launch(
            chain_kernels(form)["climb"], "climb", (memory.chains, 1), memory.values | self.constants | values
        )

    def settle(self, state: State) -> None:
        """Fetch the state from the GPU."""
        if self.memory is not None and self.step == state.step:
            self.memory.fetch(state)
