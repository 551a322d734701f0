"""Asyncio-native SDK for Elluminate: one outcome per input, in input order."""

from elluminate_async._version import __version__

__all__ = ["__version__"]
