"""The executor of arrays: the source on whole arrays of NumPy or of another array library."""

__all__: list[str] = []
