"""Numba types for vectors of numbers and for memory that holds them: the compiled kernels run a chain in each lane."""

__all__: list[str] = []
