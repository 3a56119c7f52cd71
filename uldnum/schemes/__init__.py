"""Schemes as data: stages, splitting words and the catalogue of integrators."""

__all__: list[str] = []
