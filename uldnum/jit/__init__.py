"""Extensions of Numba: vectors with one lane per chain, and a disk cache of compiled kernels."""

__all__: list[str] = []
