"""Helpers for the command-line tools and for host integration."""

from .setup import register_all_modules

__all__ = ['register_all_modules']
