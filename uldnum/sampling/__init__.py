"""Sampling: `sample` and `anneal` build a program and run it with an executor; a `Run` holds the result."""

__all__: list[str] = []
