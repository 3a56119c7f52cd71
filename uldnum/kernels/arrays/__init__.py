"""Executor on whole arrays: the source bound to NumPy or to another array library."""

__all__: list[str] = []
