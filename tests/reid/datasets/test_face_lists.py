"""`NIRVISFace`: two lists, one dataset."""

from pathlib import Path

import pytest

from mmir.reid import NIRVISFace
from mmir.utils.errors import AnnotationError, UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ('VIS/a.jpg', 'VIS/b.jpg', 'NIR/c.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'vis.txt').write_text('VIS/a.jpg 30\nVIS/b.jpg 7\n')
    (tmp_path / 'nir.txt').write_text('NIR/c.jpg 30\n')
    return tmp_path


def test_samples(root: Path) -> None:
    data = NIRVISFace(str(root), vis='vis.txt', nir='nir.txt')
    keys = ('img_path', 'gt_label', 'pid', 'cam_id', 'modality')
    found = [tuple(data.get_data_info(k)[key] for key in keys) for k in range(3)]
    assert found == [
        (f'{root}/VIS/a.jpg', 1, 30, 1, 'rgb'),
        (f'{root}/VIS/b.jpg', 0, 7, 1, 'rgb'),
        (f'{root}/NIR/c.jpg', 1, 30, 2, 'ir'),
    ]


def test_broken_lists_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match='lists with lines "path label"'):
        NIRVISFace(str(root), vis='vis.txt', nir='gone.txt')
    (root / 'nir.txt').write_text('NIR/d.jpg 30\n')
    with pytest.raises(UserError, match=r'NIR/d\.jpg'):
        NIRVISFace(str(root), vis='vis.txt', nir='nir.txt')
    (root / 'nir.txt').write_text('NIR/c.jpg thirty\n')
    with pytest.raises(AnnotationError, match='thirty'):
        NIRVISFace(str(root), vis='vis.txt', nir='nir.txt')
