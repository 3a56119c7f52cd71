"""Executors: the one source in `core` and `chain`, bound to a machine."""

__all__: list[str] = []
