"""What users' tests and first steps need: synthetic scenes and small configs."""

from mmir.testing.shrink import shrink

__all__ = ['shrink']
