"""Schemes as data: stages, splitting words and the catalogue of integrators."""
