"""The source that all executors share: random numbers, elementary functions, the mixture score and the time steps."""

__all__: list[str] = []
