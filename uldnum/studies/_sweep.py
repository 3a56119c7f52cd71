"""Sweeps: many independent tasks, whose results are kept one by one, on one machine or on many.

The result of a task is a file of its own in a folder, under a name that is a hash of everything that it depends on. So
what was computed is never computed again, what changed never meets what did not, a sweep that was killed goes on where
it was, and any number of processes may work on one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from uldnum._util.arguments import file_path, shown, title
from uldnum._util.extras import require
from uldnum._util.files import atomic, writable_folder
from uldnum._util.interrupt import uninterrupted

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
        If the folder cannot be written to, or an argument is of the wrong kind.
    Exception
        What the first task that failed raised. What the store holds by then is kept; with an executor, so are the
        results of those tasks that were running.

    Warns
    -----
    UserWarning
        If a file of the store is damaged or belongs to another task, which is then computed again; if a result cannot
        be written to the store. The message names the file.
    """
    if not isinstance(tasks, Sequence) or not all(callable(getattr(task, "result", None)) for task in tasks):
        raise ValueError(f"tasks: must be a sequence of objects with key, parameters and result, got {shown(tasks)}")
    progress = title("progress", progress)
    if not (executor is None or callable(getattr(executor, "submit", None))):
        raise ValueError(f"executor: must be a pool of concurrent.futures or the like, got {shown(executor)}")
    folder = None if store is None else writable_folder(file_path("store", store), "store")
    wanted = {task.key: task for task in tasks}
    done = {}
    for key in wanted:
        try:
            found = stored(folder, key)
        except ValueError as error:
            warnings.warn(f"store: {error}; it is computed again", stacklevel=2)
        else:
            if found is not None:
                done[key] = found
    open_keys = [key for key in wanted if key not in done]
    # By the process, so that two which share a folder seldom compute the same; and so that what is slow is spread
    # evenly, which the estimate of the time that is left relies on.
    random.Random(os.getpid()).shuffle(open_keys)
    with tqdm(
        desc=progress if isinstance(progress, str) else "sweep",
        total=len(wanted),
        initial=len(done),
        unit="point",
        delay=1.0,
        disable=None if progress else True,
    ) as bar:
        unkept = False
        for key, result in computed({key: wanted[key] for key in open_keys}, folder, executor):
            try:
                keep(folder, wanted[key], result)
            except (OSError, ValueError) as error:
                if not unkept:
                    warnings.warn(f"store: {error}; results that cannot be kept are used all the same", stacklevel=2)
                unkept = True
            done[key] = result
            bar.update()
    return [done[task.key] for task in tasks]


def computed(tasks: dict[str, Task], folder: Path | None, executor: Executor | None) -> Iterator[tuple[str, Result]]:
    """Compute tasks, or take what another process has kept by then; yield results in the order in which they come."""
    if executor is None:
        for key, task in tasks.items():
            found = None
            with suppress(ValueError):  # `sweep` has warned of it
                found = stored(folder, key)
            yield key, task.result() if found is None else found
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
                yield key, future.result()
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


def text_of(key: str, parameters: dict[str, Any], result: Result) -> str:
    """Return what the file of a task holds: everything by name, and a hash of it."""
    content = {"key": key, "parameters": parameters, "result": result}
    return json.dumps(content | {"sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()})


def stored(folder: Path | None, key: str) -> Result | None:
    """Return a result that the folder has, or None; raise ValueError if its file is not what `keep` wrote.

    The file must equal, byte for byte, what would be written of its content under this key.
    """
    if folder is None:
        return None
    path = path_of(folder, key)
    try:
        text = path.read_bytes()
        content = json.loads(text)
        if text == text_of(key, content["parameters"], content["result"]).encode():
            return dict(content["result"])
        fault = "is damaged, or the result of another task"
    except FileNotFoundError:
        return None
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        fault = "is damaged, or not the result of a sweep"
    raise ValueError(f"{str(path)!r} {fault}")


def keep(folder: Path | None, task: Task, result: Result) -> None:
    """Write a result to the folder, atomically."""
    if folder is not None:
        text = text_of(task.key, task.parameters, result)
        with uninterrupted(), atomic(path_of(folder, task.key)) as file:
            file.write_text(text, encoding="utf-8")


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
