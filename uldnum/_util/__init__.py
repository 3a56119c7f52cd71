"""Helpers that all packages use: argument checks, names, files, optional libraries, interruption and types."""

__all__: list[str] = []
