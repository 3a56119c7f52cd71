"""Executor of compiled CPU code.

* `binding`: the source bound to vectors, which have one lane per chain.
* `blocks`: the kernel, which runs blocks of chains through all parts of a launch.
* `executor`: the executor, which calls the kernel on several threads.
* `lift`: compilation of a user's score on vectors.
* `drawing`: random numbers of chains as arrays.
"""

__all__: list[str] = []
