"""The version, read from here by the package and by `setup.py`."""

__version__ = '0.1.0'
