"""The benchmark of `analysis.peers` on a GPU: this package, CuPy and PyTorch. The JAX peer runs there unchanged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import uldnum
from analysis import peers
from uldnum._util.extras import require
from uldnum.kernels.cuda.executor import CudaExecutor

__all__ = ["cupy_peer", "ours", "torch_peer"]


def ours(scheme: str, fast: bool = False, recorded: bool = False) -> peers.Peer:
    """Return the executor that `uldnum.sample` runs."""
    return partial(peers.kernel, integrator=scheme, recorded=recorded, make=partial(CudaExecutor, fast=fast))


def cupy_peer(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return a CuPy implementation, with all chains in one array of shape (d, chains)."""
    cupy = require("cupy", "cuda")
    logs, means, precision = (cupy.asarray(part) for part in peers.parameters(case, dtype))
    ax, bx, cx, ap, bp, cp = peers.coefficients(dtype)
    rng = cupy.random.default_rng(0)
    shape = (case.shape[0], peers.CHAINS)

    def run(steps: int) -> None:
        x = cupy.zeros(shape, dtype)
        p = cupy.zeros_like(x)
        for _ in range(steps):
            gaps = means[:, :, None] - x
            q = logs[:, None] - precision[:, None] / 2 * (gaps * gaps).sum(axis=1)
            w = cupy.exp(q - q.max(axis=0))
            s = ((w * precision[:, None] / w.sum(axis=0))[:, None] * gaps).sum(axis=0)
            xi = rng.standard_normal(shape, dtype)
            x += ax * p + bx * s + cx * xi
            p += ap * p + bp * s + cp * xi
        cupy.cuda.get_current_stream().synchronize()

    return run


def torch_peer(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return a PyTorch implementation with a compiled step."""
    import torch

    logs, means, precision = (torch.as_tensor(part, device="cuda") for part in peers.parameters(case, dtype))
    ax, bx, cx, ap, bp, cp = map(float, peers.coefficients(dtype))

    def plain_step(x: Any, p: Any) -> Any:
        gaps = means - x[:, None]
        w = torch.softmax(logs - precision / 2 * (gaps * gaps).sum(dim=2), dim=1) * precision
        s, xi = (w[:, :, None] * gaps).sum(dim=1), torch.randn_like(x)
        return x + (ax * p + bx * s + cx * xi), p + (ap * p + bp * s + cp * xi)

    step = torch.compile(plain_step)

    def run(steps: int) -> None:
        x = p = torch.zeros((peers.CHAINS, case.shape[0]), dtype=logs.dtype, device="cuda")
        for _ in range(steps):
            x, p = step(x, p)
        torch.cuda.synchronize()

    return run
