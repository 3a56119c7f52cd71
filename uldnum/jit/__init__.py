"""What this package adds to Numba: vectors, one lane for each chain, and compiled kernels that are kept on the disk."""

__all__: list[str] = []
