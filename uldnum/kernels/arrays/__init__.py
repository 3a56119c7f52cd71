"""Executor on whole arrays of NumPy or of another library.

* `binding`: the source bound to arrays, which contain all chains of a group.
* `executor`: the executor.
* `adaptive`: phases in which a rule chooses the step size of each chain.
"""

__all__: list[str] = []
