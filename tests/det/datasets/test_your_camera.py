"""The configs of docs/your_camera.md, copied as a user would."""

import re
from pathlib import Path

import numpy as np
import pytest
from coco_files import coco_dict, image, write_coco, write_image
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmir.det.datasets  # noqa: F401
from mmir.det.datasets import CocoSubsetDataset

ROOT = Path(__file__).parents[3]


def config_of_the_page(folder, *titles):
    """Put the blocks of the page together and point them to a folder."""
    page = (ROOT / 'docs' / 'your_camera.md').read_text()
    blocks = []
    for title in titles:
        pattern = rf'<!-- config: {title} -->\n```python\n(.*?)```'
        (block,) = re.findall(pattern, page, re.DOTALL)
        blocks.append(block)
    text = '\n'.join(blocks).replace("'configs/", f"'{ROOT}/configs/")
    text = text.replace('data/my_camera/', f'{folder}/')
    path = folder / 'my_camera.py'
    path.write_text(text)
    return Config.fromfile(path)


@pytest.mark.parametrize('bits', [8, 16])
def test_the_page_works(tmp_path, bits):
    register_all_modules(init_default_scope=False)
    coco = coco_dict([[(1, (1, 2, 20, 9))], []], ('deer', 'person'), size=(64, 48))
    for name in ('train', 'val'):
        write_coco(tmp_path / 'images', coco).rename(tmp_path / f'{name}.json')
    if bits == 16:
        for entry in coco['images']:
            raw = image(48, 64, np.uint16)
            write_image(tmp_path / 'images' / entry['file_name'], raw)
    titles = ['8 bit'] + ['16 bit'] * (bits == 16)
    cfg = config_of_the_page(tmp_path, *titles)
    assert cfg.model.bbox_head.head_module.num_classes == 2
    for data in (cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset):
        data = dict(data)
        assert data.pop('type') == 'mmir.CocoSubsetDataset'
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = CocoSubsetDataset(**data)
            sample = dataset[0]
        assert list(dataset.metainfo['classes']) == ['person', 'deer']
        assert dataset.get_data_info(0)['instances'][0]['bbox_label'] == 1
        pixels = sample.get('img', sample.get('inputs'))
        assert str(pixels.dtype).endswith('uint8')
    assert sample['data_samples'].instances[0]['bbox'] == [1, 2, 21, 11]
