"""The page of CSK-Net: its config builds, and what it names exists."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg')

from mmir.layers import ChannelExchange, GatedSpectralUnit, SpatialExchange, share_
from mmir.registry import MODELS
from mmir.seg.csknet import CSKHead, CSKNet
from mmir.seg.csknet.contrast import PixelContrastLoss
from mmir.seg.csknet.modality_contrast import ModalityContrast
from mmir.seg.csknet.teacher import Teacher
from mmir.seg.csknet.terms import ContrastTerm, DistillTerm
from mmir.testing import shrink

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / 'docs/csknet.md').read_text(encoding='utf-8')
PLAIN = ROOT / 'configs/csknet/deeplabv3plus_r50_msrs_rgb.py'


def test_four_lines_make_a_csknet_of_a_plain_config() -> None:
    cfg = shrink(Config.fromfile(PLAIN), (64, 64))
    init_default_scope(cfg.default_scope)
    for key in ('target', 'modality'):
        cfg.model.pop(key)
    block = re.search(r'<!-- config: csknet -->\n```python\n(.*?)```', PAGE, re.DOTALL)
    found = {'decode_head': ConfigDict(cfg.model.decode_head)}
    exec(block[1], found)
    cfg.merge_from_dict(dict(model=found['model']))
    model = MODELS.build(cfg.model).eval()
    assert isinstance(model, CSKNet)
    with torch.no_grad():
        logits = model(torch.randn(1, 6, 32, 32), mode='tensor')
    assert logits.shape == (1, 9, 8, 8)


ROWS = {
    'shared.channel_exchange': (share_, ChannelExchange),
    'shared.spatial_exchange': (share_, SpatialExchange),
    'shared.separate': (share_,),
    'decode_head.decoder': (CSKHead,),
    'decode_head.fusion': (CSKHead, GatedSpectralUnit),
    'decode_head.weights': (CSKHead,),
    'teacher': (Teacher,),
    'distill': (DistillTerm,),
    'contrast': (ContrastTerm, ModalityContrast, PixelContrastLoss),
    'p_solo': (CSKNet,),
}
IN_A_DOCSTRING = {'stages', 'norms'}  # of the exchange, which `share_` takes out


def test_the_table_has_the_options_of_the_code() -> None:
    table = PAGE.partition('## Options')[2].partition('\n## ')[0]
    rows = dict(re.findall(r'^\| `([\w.]+)` \| (.*) \|$', table, re.MULTILINE))
    assert rows.keys() == ROWS.keys()
    for key, text in rows.items():
        known = set(IN_A_DOCSTRING)
        for target in ROWS[key]:
            known |= {*inspect.signature(target).parameters}
        named = set(re.findall(r'`([a-z_]+)(?:=[^`]*)?`', text))
        assert named <= known, (key, named - known)
        last = key.rpartition('.')[2]
        assert last in known | {*inspect.signature(CSKNet).parameters}
