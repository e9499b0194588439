"""Synthetic scenes, small configs and contract tests, for demos and users' tests."""

from mmir.testing.shrink import shrink

__all__ = ['shrink']
