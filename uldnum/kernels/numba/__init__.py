"""Executor of compiled CPU code: the source bound to vectors of chains, run by several threads."""

__all__: list[str] = []
