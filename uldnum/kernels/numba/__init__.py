"""The executor of compiled code: the source on vectors of chains, on threads."""

__all__: list[str] = []
