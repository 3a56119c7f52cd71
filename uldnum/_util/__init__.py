"""Helpers of every package: checks of arguments, names, files, optional libraries, interruption and types."""

__all__: list[str] = []
