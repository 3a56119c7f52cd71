"""Sampling: `sample` and `anneal` build a program and hand it to an executor; a `Run` holds the result."""

__all__: list[str] = []
