"""Elementary functions and small dense algebra whose float64 results do not depend on the processor."""

__all__: list[str] = []
