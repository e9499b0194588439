"""Faces from two lists."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmir.reid import NIRVISFace
from mmir.utils.errors import AnnotationError

LISTS = dict(vis_list='vis.txt', nir_list='nir.txt')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines: dict[str, list[str]] = {'vis': [], 'nir': []}
    for kind, count in (('vis', 1), ('nir', 2)):
        for pid in (12, 5):
            for k in range(count):
                path = f'{kind}/P {pid}/{k}.bmp'
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                image = np.full((4, 4), pid + k, np.uint8)
                (tmp_path / path).write_bytes(cv2.imencode('.bmp', image)[1].tobytes())
                lines[kind].append(f'{path} {pid}')
        (tmp_path / f'{kind}.txt').write_text('\n'.join(lines[kind]))
    return tmp_path


def test_samples_are_those_of_both_lists(root: Path) -> None:
    gray = [dict(type='mmcv.LoadImageFromFile', color_type='grayscale')]
    data = NIRVISFace(data_root=str(root), pipeline=gray, **LISTS)
    rows = [data.get_data_info(k) for k in range(len(data))]
    found = [(x['pid'], x['gt_label'], x['cam_id'], x['modality']) for x in rows]
    assert found == [
        (12, 1, 1, 'rgb'),
        (5, 0, 1, 'rgb'),
        (12, 1, 2, 'ir'),
        (12, 1, 2, 'ir'),
        (5, 0, 2, 'ir'),
        (5, 0, 2, 'ir'),
    ]
    assert rows[3]['img_path'] == f'{root}/nir/P 12/1.bmp'
    image = data[3]['img']
    assert image.shape[:2] == (4, 4)
    assert (image == 13).all()


def test_bad_lists(root: Path) -> None:
    (root / 'gone.txt').write_text('vis/P 12/7.bmp 12')
    with pytest.raises(FileNotFoundError, match=r'7\.bmp'):
        NIRVISFace(data_root=str(root), **LISTS | dict(nir_list='gone.txt'))
    (root / 'odd.txt').write_text('vis/P 12/0.bmp twelve')
    with pytest.raises(AnnotationError, match='path label'):
        NIRVISFace(data_root=str(root), **LISTS | dict(vis_list='odd.txt'))
