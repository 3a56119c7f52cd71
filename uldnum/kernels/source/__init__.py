"""The one source of all executors: random numbers, elementary functions, the mixture score and the steps of a chain."""

__all__: list[str] = []
