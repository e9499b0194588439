"""Activate the shims before any test module imports `mmcv.ops`."""

from mmir import compat

compat.activate()
