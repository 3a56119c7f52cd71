"""Sweeps: many independent tasks, whose results are kept one by one, on one machine or on many.

The result of a task is a file of its own in a folder, under a name that is a hash of everything that it depends on. So
what was computed is never computed again, what changed never meets what did not, a sweep that was killed goes on where
it was, and any number of processes may work on one folder.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from uldnum.extras import require
from uldnum.files import atomic, writable_folder

__all__ = ["Task", "scheduler", "sweep"]

Result = dict[str, Any]


class Task(Protocol):
    """Something to compute. It is pickled where another process computes it."""

    @property
    def key(self) -> str:
        """Hash of everything that its result depends on."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What it is, for those who look into its file."""

    def result(self) -> Result:
        """Numbers and nested lists of them; what JSON can hold, to the bit."""


def sweep(
    tasks: Sequence[Task],
    *,
    store: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool | str = True,
) -> list[Result]:
    """Return the results of tasks, in their order; the same task twice is computed once.

    Parameters
    ----------
    tasks : sequence of Task
        They do not depend on each other.
    store : path, optional
        Folder that keeps the result of every task as soon as it is there. Results that it has are taken from it.
        Several processes may use it at the same time: each takes the tasks in an order of its own, and leaves out what
        another has done by then.
    executor : concurrent.futures.Executor, optional
        Where to compute: a pool of processes, of a cluster (`scheduler`), of MPI ranks. Default: here, one task after
        the other, with threads inside each.
    progress : bool or str
        Show a progress bar, and the time that is left, in a terminal; a string is what to call it.

    Returns
    -------
    list of dict
        What `Task.result` gave, one for each task.

    Raises
    ------
    ValueError
        If the folder cannot be written to, or a file in it is none of a sweep; if an argument is of the wrong kind.
    Exception
        What the first task that failed raised. What the store holds by then is kept; with an executor, so are the
        results of those tasks that were running.
    """
    if not (store is None or isinstance(store, str | Path)):
        raise ValueError(f"store: must be the path of a folder, got {store!r}")
    if not (executor is None or callable(getattr(executor, "submit", None))):
        raise ValueError(f"executor: must be a pool of concurrent.futures or the like, got {executor!r}")
    folder = None if store is None else writable_folder(Path(store), "store")
    wanted = {task.key: task for task in tasks}
    done = {key: found for key in wanted if (found := stored(folder, key)) is not None}
    open_keys = [key for key in wanted if key not in done]
    # By the process, so that two which share a folder seldom compute the same; and so that what is slow is spread
    # evenly, which the estimate of the time that is left relies on.
    random.Random(os.getpid()).shuffle(open_keys)
    title = progress if isinstance(progress, str) else "sweep"
    with tqdm(
        desc=title, total=len(wanted), initial=len(done), unit="point", delay=1.0, disable=None if progress else True
    ) as bar:
        for key, result in computed({key: wanted[key] for key in open_keys}, folder, executor):
            done[key] = result
            bar.update()
    return [done[task.key] for task in tasks]


def computed(tasks: dict[str, Task], folder: Path | None, executor: Executor | None) -> Iterator[tuple[str, Result]]:
    """Compute tasks, keep what they give, and yield it in the order in which it comes."""
    if executor is None:
        for key, task in tasks.items():
            found = stored(folder, key)
            yield key, keep(folder, task, task.result()) if found is None else found
        return
    futures: dict[Future[Result], str] = {}
    fault: BaseException | None = None
    try:
        for key, task in tasks.items():
            futures[executor.submit(run, task)] = key
        for future in as_completed(futures):
            key = futures[future]
            if future.cancelled():
                continue
            if future.exception() is None:
                yield key, keep(folder, tasks[key], future.result())
            elif fault is None:  # what runs is still waited for, and kept
                fault = future.exception()
                for other in futures:
                    other.cancel()
    finally:
        for future in futures:
            future.cancel()
    if fault is not None:
        raise fault


def run(task: Task) -> Result:
    """Compute a task: what is sent to other processes."""
    return task.result()


def path_of(folder: Path, key: str) -> Path:
    """Return the file of a task."""
    return folder / f"{key}.json"


def stored(folder: Path | None, key: str) -> Result | None:
    """Return a result that the folder has, or None."""
    if folder is None:
        return None
    try:
        return dict(json.loads(path_of(folder, key).read_bytes())["result"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"store: {str(path_of(folder, key))!r} is not the result of a sweep; remove it") from None


def keep(folder: Path | None, task: Task, result: Result) -> Result:
    """Write a result to the folder, atomically."""
    if folder is not None:
        with atomic(path_of(folder, task.key)) as file:
            file.write_text(json.dumps({"parameters": task.parameters, "result": result}), encoding="utf-8")
    return result


@contextmanager
def scheduler(address: str | None) -> Iterator[Executor | None]:
    """Give an executor on the workers of a Dask cluster, or None, for here, without an address.

    Parameters
    ----------
    address : str, optional
        Of the scheduler, such as ``tcp://host:8786``.

    Raises
    ------
    MissingExtraError
        If the extra ``cluster`` is not installed.
    ValueError
        If nothing answers at the address.
    """
    if address is None:
        yield None
        return
    distributed = require("distributed", "cluster")
    try:
        distributed.comm.resolve_address(address)  # a client of what is no address never ends
        client = distributed.Client(address, timeout="5s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(f"scheduler: no Dask scheduler answers at {address!r}: {error}") from None
    with client:
        yield client.get_executor(pure=False)
