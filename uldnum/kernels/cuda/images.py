"""The CUDA executor of image targets: the target computes the score on the GPU, one kernel does the rest of a stage."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum.kernels import Problem, State, check_rows, split_seed
from uldnum.kernels.array import core, ops
from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import NEVER, Tables, Watch, group
from uldnum.kernels.cuda.device import device, require_room
from uldnum.kernels.cuda.stages import StageForm, stage_kernel
from uldnum.kernels.space import Space
from uldnum.typing import Array

__all__ = ["ImageExecutor"]


class ImageExecutor:
    """Runs an image target whose score takes arrays on the GPU.

    The chain's steps run here, in Python, and see one coordinate, whose value is an array (chains, size): the
    coordinates of an image are independent but for the score. Normals are not drawn ahead: what `draw` returns is the
    number of the first, and the kernel draws.

    Parameters
    ----------
    problem : Problem
        Its target has a shape of several axes, and ``score`` takes CuPy arrays, of which ``like`` is one.
    dtype : dtype
        float32 or float64.
    fast : bool
        float32 alone: the hardware's sine and cosine.
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any], fast: bool = False) -> None:
        check_rows(problem.tables, "cuda")
        self.problem, self.dtype, self.fast = problem, dtype, fast
        self.device = device()
        self.device.require(Space.of(problem.target.like))
        self.info = {"device": self.device.name}
        self.size = int(np.prod(problem.target.shape))
        machine = ops(dtype)._replace(tail=lambda first, j: first + self.size * j)
        # The kernel of the last stage looks for what escaped.
        parts = SimpleNamespace(**vars(core(dtype)) | {"first_escape": lambda left, *_: left})
        self.chain = make_chain(machine, parts, self.score, self.draw, self.move, self.read, self.record)
        self.least, self.most = (self.device.array(a) for a in (problem.watch.least, problem.watch.most))
        self.groups: list[tuple[Any, Any, Any]] = []  # u, xp (k, 1, chains, size) and left, on the GPU
        self.tables = cache(self.upload)
        self.g = self.now = self.kept = 0  # group, step, positions kept before this launch

    def upload(self, g: int, j: int) -> list[Any]:
        """Return dA, b and C of map j at step size g, on the GPU."""
        t = group(self.problem.tables, g)
        used = t.normals[j] + t.readout[j]
        return [self.device.array(part).reshape(-1) for part in (t.dA[j], t.b[j], t.C[j, :, :used])]

    def score(self, s: list[Any], q: None, y: Any, target: Any, d: int) -> None:
        """Score of all chains, in the type of the run: the kernel is given its address."""
        answer = target.score(y[0].reshape(-1, *target.shape))
        if answer.size != y[0].size:
            raise ValueError(f"score: must return {y[0].size} numbers, got an array of shape {answer.shape}")
        s[0] = self.device.like(answer, self.dtype)

    def draw(self, xi: None, first: int, count: int, *_: Any) -> int:
        """Number of the first normal."""
        return self.size * int(first)

    def move(self, u: Any, s: list[Any], xi: int, t: Tables, j: int, d: int) -> None:
        """Stage j in place."""
        last = j == len(t.plain) - 1
        self.now += last
        self.update(u, u, s, xi, 0, t, j, len(u), 0, self.now if last else NEVER)

    def read(self, new: Any, u: Any, s: list[Any], xi: int, eta: int, t: Tables, j: int, d: int, rows: int) -> None:
        """Map j, its first rows."""
        self.update(new, u, s, xi, eta, t, j, rows, int(t.readout[j]), NEVER)

    def update(
        self, new: Any, u: Any, s: list[Any], xi: int, eta: int, t: Tables, j: int, rows: int, e: int, now: Any
    ) -> None:
        """Launch the kernel of map j."""
        k, _, chains, size = u.shape
        xi, eta = int(xi), int(eta)  # Numba knows its own numbers alone when it compiles
        form = StageForm(self.dtype.name, self.fast, k, rows, int(t.normals[j]), e, xi % 4, eta % 4, self.size % 4 == 0)
        dA, b, C = self.tables(self.g, j)
        score = s[0].reshape(-1) if np.ndim(s[0]) else u.reshape(-1)  # where there is none, it is multiplied by 0
        k0, k1 = split_seed(self.problem.seed)
        values = {
            "new": new.reshape(-1), "u": u.reshape(-1), "s": score, "dA_of": dA, "b_of": b, "C_of": C, "apart": 0,
            "chains": chains, "size": size, "first_chain": self.problem.first_chain, "first": xi, "first_read": eta,
            "k0": k0, "k1": k1, "least": self.least, "most": self.most, "now": now, "left": self.groups[self.g][2],
        }  # fmt: skip
        self.device.launch(stage_kernel(form), "update", (chains * -(-size // 4), 1), values)

    def record(self, trace: Array, n: int, x: Any, watch: Watch) -> None:
        """Keep the positions at recorded step n, if it is one of those that are kept."""
        if watch.thin and (n + 1) % watch.thin == 0:
            trace[(n + 1) // watch.thin - 1 - self.kept] = self.device.host(x[0, 0])

    def first_launch(self, state: State) -> int:
        """One step: how long a score takes is not known."""
        return 1

    def load(self, state: State) -> None:
        """Bring the state to the GPU, once: rows first, so that the positions are one batch of images."""
        if not self.groups:
            chains = state.left.shape[1]
            scores = 3 * self.size * self.dtype.itemsize  # the score, what it was made of, what is read from here
            require_room(self.device, chains, (state.u.nbytes + state.xp.nbytes) // chains + scores, 0)
        for g in range(len(self.groups), len(state.u)):
            u, xp = (self.device.array(a[g].transpose(1, 0, 2)[:, None]) for a in (state.u, state.xp))
            self.groups.append((u, xp, self.device.array(state.left[g])))

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        self.load(state)
        for g, (u, xp, _) in enumerate(self.groups):
            self.g = g
            t, target = group(self.problem.tables, g), self.problem.target
            state.nfe[g] += self.chain.enter(u, xp, [0], None, None, target, t, 1, len(u), None, None, None)

    def advance(self, state: State, last: int) -> Array:
        """Go on to step ``last``, record what is watched, and read the last state; returns the positions kept."""
        self.load(state)
        self.kept, trace = state.trace(self.problem.watch, last)
        step = state.step + 1
        for g, (u, xp, left) in enumerate(self.groups):
            self.g, self.now = g, state.step
            t, target = group(self.problem.tables, g), self.problem.target
            evaluations, _ = self.chain.advance(
                u, xp, [None], [0], None, None, None, None, target, t, 1, len(u), None, None, None,
                step, last, step, 1, self.problem.watch, False, None, None, trace[:, g], left,
            )  # fmt: skip
            state.nfe[g] += evaluations
        self.device.wait()
        state.step = last
        return trace

    def settle(self, state: State) -> None:
        """Fetch the state from the GPU."""
        self.load(state)
        for g, (u, xp, left) in enumerate(self.groups):
            for there, here in ((u, state.u[g]), (xp, state.xp[g])):
                here[...] = self.device.host(there)[:, 0].transpose(1, 0, 2)
            state.left[g] = self.device.host(left)
