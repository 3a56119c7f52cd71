"""Executors: the one source in `core` and `chain`, bound to a machine."""
