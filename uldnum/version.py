"""The version, read once: to look it up among what is installed takes as long as some runs."""

from importlib.metadata import version

__all__ = ["VERSION"]

VERSION = version("uldnum")
