"""Classification on mmpretrain.

Importing it never fails: without a working mmpretrain, every name is a placeholder that
says what is missing when used (see `mmir.registry`).
"""

from mmir.registry import fail_part

try:
    from .data_preprocessor import PairedClsDataPreprocessor
except Exception as error:
    globals().update(fail_part('reid', error))

__all__ = ['PairedClsDataPreprocessor']
