"""The settings on the page of the datasets work as printed."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

import mmir.seg.datasets
from mmir.testing.scenes.seg_layouts import write_seg_set

PAGE = Path(__file__).parents[3] / 'docs' / 'datasets_segmentation.md'
BLOCK = re.compile(r'<!-- config: (\w+) -->\n```python\n(.*?)```', re.DOTALL)


def write_own(root):
    names = ('a', 'b', 'c')
    for folder, ending in (('color', '_C'), ('thermal16', '_T'), ('masks', '_C')):
        (root / folder).mkdir(parents=True)
        kind = np.uint16 if ending == '_T' else np.uint8
        for name in names[: 2 if ending == '_T' else 3]:
            picture = np.ones((64, 64), kind)
            cv2.imwrite(str(root / folder / f'{name}{ending}.png'), picture)
    (root / 'train.txt').write_text('\n'.join(f'{name}_C' for name in names))


@pytest.mark.parametrize('name', ['msrs', 'mfnet', 'vt5000', 'own'])
def test_settings(tmp_path, name):
    blocks = dict(BLOCK.findall(PAGE.read_text(encoding='utf-8')))
    found = {}
    exec(blocks[name], found)
    root = tmp_path / 'data'
    if name == 'own':
        write_own(root)
    else:
        title = dict(msrs='MSRS', mfnet='MFNet', vt5000='VT5000')[name]
        write_seg_set(title, root, train=2, test=0, progress=False)
    dataset = DATASETS.build(found['train_data'] | dict(data_root=str(root)))
    size = dict(msrs=(480, 480), mfnet=(480, 640), vt5000=(384, 384), own=(64, 64))
    assert len(dataset) == (3 if name == 'own' else 2)
    for sample in (dataset[k] for k in range(len(dataset))):
        assert sample['inputs'].shape == (4, *size[name])
        assert sample['data_samples'].gt_sem_seg.shape == size[name]
    if name == 'own':
        assert dataset[2]['data_samples'].absent == ('ir',)


def test_every_set_is_on_the_page():
    text = PAGE.read_text(encoding='utf-8')
    for cls in mmir.seg.datasets.__all__:
        assert f'`{cls}' in text or f'mmir.{cls}' in text
