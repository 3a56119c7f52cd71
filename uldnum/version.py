"""Version of the installed package, looked up once, because the lookup is slow."""

from importlib.metadata import version

__all__ = ["VERSION"]

VERSION = version("uldnum")
