"""The shims are on before any test module imports `mmcv.ops`."""

from mmir import compat

compat.activate()
