"""Sampling methods as coefficient tables: stages, splitting words, integrators and predictors."""

__all__: list[str] = []
