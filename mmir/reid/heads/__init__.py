"""Heads of re-identification."""

from .vireid import VIReIDHead

__all__ = ['VIReIDHead']
