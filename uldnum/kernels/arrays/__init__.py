"""Executor on whole arrays of NumPy or of another library.

* `binding`: the source bound to arrays over chains and coordinates.
* `executor`: the executor.
* `adaptive`: phases in which a rule chooses the step size of each chain.
"""

__all__: list[str] = []
