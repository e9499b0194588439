"""Configs name the host wherever the bare name of a type says too little.

In a config that is based on `mmir::...` mmengine looks from the scope of mmir, where
all hosts are alike: `Resize` would be that of mmcv, `MultiImageMixDataset` an error.
"""

import re
from importlib import import_module
from pathlib import Path

import mmengine.registry
import pytest
from mmengine.registry import Registry

import mmir  # noqa: F401 - before any host: it stands in for missing mmcv operators

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
CONFIGS = sorted(FOLDER.rglob('*.py'))
HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
ROOTS = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]
# That of mmpretrain differs from mmcv's in nothing that a detector's config uses, and
# Inferencers look for the bare name.
BARE = {'LoadImageFromFile', 'RandomResize'}


@pytest.fixture(scope='module')
def ambiguous() -> set[str]:
    """Names that several of mmengine, mmcv and the hosts have registered."""
    for host in HOSTS:
        utils = import_module(f'{host}.utils')
        utils.register_all_modules(init_default_scope=False)
    found = set()
    for root in ROOTS:
        hosts = [root._children.get(host) for host in HOSTS]
        tables = [set(r.module_dict) for r in (root, *filter(None, hosts))]
        found |= {
            n for table in tables for n in table if sum(n in t for t in tables) > 1
        }
    assert {'Resize', 'RandomFlip', 'MultiImageMixDataset'} <= found
    return found - BARE


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_ambiguous_names_have_their_host(path: Path, ambiguous: set[str]) -> None:
    named = set(re.findall(r"type='(\w+)'", path.read_text()))
    assert named & ambiguous == set()
