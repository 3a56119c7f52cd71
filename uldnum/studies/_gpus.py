"""Processes that share the GPUs of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from uldnum.sampling.backends import device_numbers

__all__ = ["gpus"]

# The variable that lists the GPUs of a process.
VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def gpus(devices: Sequence[int] | None = None) -> Iterator[Executor]:
    """Return a context manager whose value is an executor with one process for each GPU.

    Each process sees a single GPU. The points of a study with ``backend="cuda"``, or with a network on the GPU, are
    then divided among the GPUs, and each process takes the next point when it has finished one. The processes can also
    run different chains of one run, by ``first_chain`` of `uldnum.sample` and `uldnum.anneal`.

    Parameters
    ----------
    devices : list of int, optional
        Numbers of the GPUs. The default is all GPUs of this process.

    Yields
    ------
    concurrent.futures.Executor
        Value for the argument ``executor`` of `sweep` and of the studies.

    Raises
    ------
    ValueError
        If ``devices`` is not a list of different numbers of GPUs that exist.
    MissingExtraError
        If the extra ``cuda`` is not installed.
    RuntimeError
        If no GPU is usable; the message states the reason.

    Notes
    -----
    The environment variable ``CUDA_VISIBLE_DEVICES`` of each process names its GPU. The processes are started afresh,
    because a process that was forked cannot use a GPU that its parent has used. A script must therefore use this
    function under ``if __name__ == "__main__":``.

    Examples
    --------
    >>> from uldnum import studies
    >>> with studies.gpus([0, 1]) as executor:  # doctest: +SKIP
    ...     found = studies.bias("ring-8", ["BAOAB", "ULA"], backend="cuda", executor=executor)
    """
    listed = visible(device_numbers(devices), os.environ.get(VISIBLE))
    context = get_context("spawn")
    names: Any = context.SimpleQueue()
    for name in listed:
        names.put(name)
    with ProcessPoolExecutor(len(listed), mp_context=context, initializer=take, initargs=(names,)) as pool:
        yield pool


def visible(numbers: Sequence[int], environment: str | None) -> list[str]:
    """Return the names of GPUs for the variable, given their numbers in a process with its own value of it."""
    names = environment.split(",") if environment else None
    return [names[number].strip() if names else str(number) for number in numbers]


def take(names: Any) -> None:
    """Make the next GPU the only one of this process, before any library looks for GPUs."""
    os.environ[VISIBLE] = names.get()
