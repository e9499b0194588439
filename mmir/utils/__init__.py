"""Helpers of the command-line tools and of host integration."""

from .setup import register_all_modules

__all__ = ['register_all_modules']
