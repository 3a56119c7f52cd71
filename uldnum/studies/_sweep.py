"""Sweeps of independent tasks, on one machine or on many, whose results are stored one by one.

The result of each task is a file in a folder. The name of the file is a hash of everything that the result depends on,
so no result is computed twice, and results of different parameters or code are never confused. A sweep that was
interrupted resumes with the remaining tasks, and several processes can use one folder at the same time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from uldnum._util.arguments import file_path, shown, title
from uldnum._util.deadline import OutOfTimeError, deadline
from uldnum._util.extras import require
from uldnum._util.files import atomic, writable_folder
from uldnum._util.interrupt import uninterrupted

__all__ = ["Task", "collected", "scheduler", "sweep"]

Result = dict[str, Any]


class Task(Protocol):
    """An independent computation of a sweep. Tasks are pickled if another process computes them."""

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters by name, for readers of the stored file."""

    def result(self) -> Result:
        """Compute the result: a dictionary of numbers, strings and nested lists that JSON stores without loss."""


def sweep(
    tasks: Sequence[Task],
    *,
    store: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool | str = True,
) -> list[Result]:
    """Compute independent tasks and return their results in the order of the tasks.

    A task that occurs more than once is computed once.

    Parameters
    ----------
    tasks : sequence of Task
        Objects with a ``key``, ``parameters`` and a method ``result``; see Notes.
    store : path, optional
        Folder in which every result is stored as soon as it is computed. Results that the folder already contains are
        read instead of computed. Several processes may use a folder at the same time: each computes the tasks in a
        different order and skips those that others have stored in the meantime. Default: no result is stored.
    executor : concurrent.futures.Executor, optional
        Executor that computes the tasks: a pool of processes, of the workers of a cluster (`scheduler`), or of MPI
        ranks. Default: this process computes the tasks in turn, and each task may use several threads.
    progress : bool or str, default True
        Whether to show a progress bar with the remaining time in a terminal; a string is the title of the bar.

    Returns
    -------
    list of dict
        The result of every task.

    Raises
    ------
    ValueError
        If the folder cannot be written to, or if an argument has the wrong type.
    Exception
        The exception of the first task that fails. Results that were stored before remain in the folder; with an
        executor, so do the results of the tasks that were running at that time.

    Warns
    -----
    UserWarning
        If a file in the folder is damaged or belongs to another task, which is then computed again; or if a result
        cannot be stored. The message names the file.

    Notes
    -----
    The attributes of a task are:

    * ``key``: string, a hash of everything that the result depends on.
    * ``parameters``: dictionary that describes the task to readers of the stored file.
    * ``result()``: dictionary of numbers, strings and nested lists.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from uldnum import exact, studies
    >>> @dataclass
    ... class Limit:
    ...     integrator: str
    ...     @property
    ...     def key(self):
    ...         return f"limit-{self.integrator}"
    ...     @property
    ...     def parameters(self):
    ...         return {"integrator": self.integrator}
    ...     def result(self):
    ...         return {"h": round(exact.max_stable_h(self.integrator), 6)}
    >>> studies.sweep([Limit("ULA"), Limit("BAOAB")])
    [{'h': 2.0}, {'h': 2.0}]
    """
    found = collected(tasks, store, executor, progress)
    return [found[task.key] for task in tasks]


def collected(
    tasks: Sequence[Task],
    store: str | Path | None,
    executor: Executor | None,
    progress: bool | str,
    *,
    seconds: float = math.inf,
    rank: Callable[[Any], Any] = lambda task: 0,
    unit: str = "point",
    size: Callable[[Any], int] = lambda task: 1,
) -> dict[str, Result]:
    """Return the results, by key, of the tasks that are computed or stored within ``seconds``.

    Tasks of lower rank are computed first. The progress bar counts the size of the tasks in the given unit. After the
    time is over, a task in this process is abandoned (`uldnum._util.deadline`), and tasks that an executor has begun
    are awaited.
    """
    moment = time.monotonic() + seconds
    if not isinstance(tasks, Sequence) or not all(callable(getattr(task, "result", None)) for task in tasks):
        raise ValueError(f"tasks: must be a sequence of objects with key, parameters and result, got {shown(tasks)}")
    progress = title("progress", progress)
    if not (executor is None or callable(getattr(executor, "submit", None))):
        raise ValueError(f"executor: must be None or a concurrent.futures.Executor, got {shown(executor)}")
    folder = None if store is None else writable_folder(file_path("store", store), "store")
    wanted = {task.key: task for task in tasks}
    done = {}
    for key in wanted:
        try:
            found = stored(folder, key)
        except ValueError as error:
            warnings.warn(f"store: {error}; it is computed again", stacklevel=3)
        else:
            if found is not None:
                done[key] = found
    open_keys = [key for key in wanted if key not in done]
    # The order depends on the process, so that processes that share a folder seldom compute the same task. A random
    # order also spreads slow tasks evenly, which the estimate of the remaining time relies on.
    random.Random(os.getpid()).shuffle(open_keys)
    open_keys.sort(key=lambda key: rank(wanted[key]))
    with tqdm(
        desc=progress if isinstance(progress, str) else "sweep",
        total=sum(map(size, wanted.values())),
        initial=sum(size(wanted[key]) for key in done),
        unit=unit,
        delay=1.0,
        disable=None if progress else True,
    ) as bar:
        warned = False
        for key, result in computed({key: wanted[key] for key in open_keys}, folder, executor, moment):
            try:
                keep(folder, wanted[key], result)
            except (OSError, ValueError) as error:
                if not warned:
                    warnings.warn(f"store: {error}; results that cannot be stored are still returned", stacklevel=3)
                warned = True
            done[key] = result
            bar.update(size(wanted[key]))
    return done


def computed(
    tasks: dict[str, Task], folder: Path | None, executor: Executor | None, moment: float
) -> Iterator[tuple[str, Result]]:
    """Yield the results of tasks in the order of completion. Results stored by another process are read."""
    if executor is None:
        for key, task in tasks.items():
            found = None
            with suppress(ValueError):  # `collected` has already warned of the damaged file
                found = stored(folder, key)
            with suppress(OutOfTimeError):
                if found is None:
                    with deadline(moment):
                        found = task.result()
                yield key, found
        return
    futures: dict[Future[Result], str] = {}
    fault: BaseException | None = None
    failed = ""
    try:
        for key, task in tasks.items():
            futures[executor.submit(run, task)] = key
        for future in finished(futures, moment):
            key = futures[future]
            if future.cancelled():
                continue
            if future.exception() is None:
                yield key, future.result()
            elif fault is None:  # tasks that are running are still awaited, and their results stored
                fault, failed = future.exception(), key
                for other in futures:
                    other.cancel()
    finally:
        for future in futures:
            future.cancel()
    if fault is not None and cannot_be_sent(tasks[failed], fault):
        raise ValueError(
            f"executor: a task cannot be sent to another process ({fault}); define the functions of a target at the "
            "top level of a module, or use a ThreadPoolExecutor"
        ) from fault
    if fault is not None:
        raise fault


def cannot_be_sent(task: Task, fault: BaseException) -> bool:
    """Return whether an exception was raised because a task cannot be pickled, and not by its computation.

    Pools of the standard library raise the error that pickling raises here. Others may raise a `pickle.PicklingError`.
    """
    try:
        pickle.dumps(task)
    except Exception as error:  # of many classes; a class of the task may raise its own
        return isinstance(fault, pickle.PicklingError) or (type(fault), str(fault)) == (type(error), str(error))
    return False


def finished(futures: Iterable[Future[Result]], moment: float) -> Iterator[Future[Result]]:
    """Yield futures as they finish, and cancel the ones that have not begun when `time.monotonic` reaches a moment."""
    rest = set(futures)
    with suppress(TimeoutError):
        for future in as_completed(futures, None if moment == math.inf else max(0.0, moment - time.monotonic())):
            rest.discard(future)
            yield future
    yield from as_completed([future for future in rest if not future.cancel()])


def run(task: Task) -> Result:
    """Compute a task; the function that is sent to other processes."""
    return task.result()


def path_of(folder: Path, key: str) -> Path:
    """Return the path of the file that stores the result of a task."""
    return folder / f"{key}.json"


def text_of(key: str, parameters: dict[str, Any], result: Result) -> str:
    """Return the content of the file of a task: key, parameters and result by name, and a hash of these."""
    content = {"key": key, "parameters": parameters, "result": result}
    return json.dumps(content | {"sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()})


def stored(folder: Path | None, key: str) -> Result | None:
    """Return the stored result of a task, or None if there is none; raise ValueError if the file is not valid.

    The file is valid if it equals, byte for byte, what `keep` would write for its content under this key.
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
    """Store a result in the folder, atomically."""
    if folder is not None:
        text = text_of(task.key, task.parameters, result)
        with uninterrupted(), atomic(path_of(folder, task.key)) as file:
            file.write_text(text, encoding="utf-8")


@contextmanager
def scheduler(address: str | None) -> Iterator[Executor | None]:
    """Return a context manager whose value is an executor on the workers of a Dask cluster.

    Parameters
    ----------
    address : str or None
        Address of the Dask scheduler, such as ``tcp://host:8786``. With None, the value of the context manager is None,
        with which `sweep` computes in this process.

    Yields
    ------
    concurrent.futures.Executor or None
        Value for the argument ``executor`` of `sweep` and of the studies.

    Raises
    ------
    MissingExtraError
        If the extra ``cluster`` is not installed.
    ValueError
        If no Dask scheduler answers at the address.

    Examples
    --------
    >>> from uldnum import studies
    >>> with studies.scheduler("tcp://host:8786") as executor:  # doctest: +SKIP
    ...     found = studies.bias("gaussian", ["BAOAB", "ULA"], executor=executor)
    """
    if address is None:
        yield None
        return
    distributed = require("distributed", "cluster")
    try:
        distributed.comm.resolve_address(address)  # a client of an invalid address would never return
        client = distributed.Client(address, timeout="5s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(f"scheduler: no Dask scheduler answers at {address!r}: {error}") from None
    with client:
        yield client.get_executor(pure=False)
