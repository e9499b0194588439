"""Let `import mmcv._ext` find the substitute where mmcv has no compiled operators.

Why: `mmcv.ops` imports `mmcv._ext` eagerly and `mmdet.models` imports `mmcv.ops`, so
without compiled operators no detector can be built, not even one that uses none of
them. There are no wheels with operators for recent torch (onedl-mmcv 2.3.6, mmcv 2.1.0
to 2.2.0), and building them takes a compiler and ten minutes.

Delete it, with `mmcv_ext.py` and `ops/`, when mmcv publishes operators for current
torch releases, or when `mmcv.ops` can be imported without them.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Literal

MODULE = 'mmcv._ext'
SOURCE = Path(__file__).with_name('mmcv_ext.py')


class OpsFinder:
    """Finder that loads `mmcv._ext` from `SOURCE`.

    It is last in `sys.meta_path`. A compiled module, found by an earlier finder, takes
    precedence.
    """

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of the substitute if `name` is `mmcv._ext`, else None."""
        return spec_from_file_location(MODULE, SOURCE) if name == MODULE else None


def install() -> None:
    """Append the finder to `sys.meta_path` unless it is there already."""
    if OpsFinder not in sys.meta_path:
        sys.meta_path.append(OpsFinder)


def ops_kind() -> Literal['compiled', 'substitute']:
    """Return which operators `mmcv.ops` uses, or would use if imported now.

    Raises:
        ModuleNotFoundError: mmcv itself is not installed.
    """
    spec = find_spec(MODULE)
    ours = spec is None or spec.origin == str(SOURCE)
    return 'substitute' if ours else 'compiled'
