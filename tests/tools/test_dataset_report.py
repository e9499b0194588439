"""The dataset report describes the content of the files."""

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from paired_configs import SIZE, tool, write_detection, write_segmentation

from mmir.structures import ModalityNormalizer
from mmir.utils.errors import UserError


@pytest.fixture(scope='module')
def report():
    with tool('dataset_report') as module:
        yield module


def pixels(files) -> np.ndarray:
    images = [cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in sorted(files)]
    return np.concatenate([i.reshape(-1, 1 if i.ndim == 2 else 3) for i in images])


def test_a_paired_detection_set(report, tmp_path) -> None:
    config, root = write_detection(tmp_path)
    out = tmp_path / 'out'
    found = report.main([str(config), '--workers', '2', '--out', str(out)])
    assert (found['samples'], found['complete'], found['of']) == (3, 3, 3)
    assert found['measured_after'] == ['LoadPairedImages', 'LoadAnnotations']
    for name, pattern in (('rgb', 'RGB/*'), ('ir', 'thermal_8_bit/*')):
        row, values = found['modalities'][name], pixels((root / 'train').glob(pattern))
        assert row['images'] == 3
        assert row['sizes'] == {f'{SIZE[0]}x{SIZE[1]}': 3}
        assert np.allclose(row['mean'], values.mean(0))
        assert np.allclose(row['std'], values.std(0))
        assert sum(row['histogram']['shares']) == pytest.approx(1)
        assert sum(row['energy'].values()) == pytest.approx(1)
    table = json.loads((root / 'train/thermal_annotations.json').read_text())
    names = {c['id']: c['name'] for c in table['categories']}
    counts = [names[a['category_id']] for a in table['annotations']]
    for name, count in found['labels']['classes'].items():
        assert count == counts.count(name)
    assert found['labels']['ignored'] == 0
    assert found['labels']['boxes'] == sum(found['labels']['sizes'].values())
    assert json.loads((out / 'report.json').read_text()) == json.loads(
        json.dumps(found)
    )
    text = (out / 'report.md').read_text()
    assert '3 with all of rgb, ir; 0 unreadable' in text
    assert f'| person | {counts.count("person")} |' in text
    assert cv2.imread(str(out / 'report.png')).shape[1] > 1000
    with pytest.raises(UserError, match=r'holds report\.md.*--force'):
        report.main([str(config), '--out', str(out)])


def test_workers_change_nothing(report, tmp_path) -> None:
    config, _ = write_detection(tmp_path)
    one, many = (
        report.main([str(config), '--workers', n, '--out', str(tmp_path / n)])
        for n in ('1', '3')
    )
    assert one == many


class Plain(ModalityNormalizer, BaseDataPreprocessor):
    """A preprocessor that only normalizes."""

    def cast_data(self, data):
        return data


class Kept(Plain):
    def forward(self, data, training=False):
        return torch.stack([self._normalize(x, {}) for x in data['inputs']])


def test_the_printed_statistics_normalise_the_set(report, tmp_path) -> None:
    """Used in the preprocessor, they give mean 0 and standard deviation 1."""
    config, root = write_detection(tmp_path)
    found = report.main([str(config), '--out', str(tmp_path / 'out')])
    with tool('_dataset_markdown') as module:
        snippet = module.snippet
    given = eval(f'dict({snippet(found["modalities"])})')
    folder = root / 'train'
    inputs = [
        torch.from_numpy(
            np.concatenate([cv2.imread(str(rgb)), cv2.imread(str(ir), 0)[..., None]], 2)
        ).permute(2, 0, 1)
        for rgb, ir in zip(
            sorted(folder.glob('RGB/*')), sorted(folder.glob('thermal_8_bit/*')),
            strict=True,
        )
    ]  # fmt: skip
    assert given['modalities']['rgb']['bgr_to_rgb']
    assert given['modalities']['ir']['channels'] == 1
    normal = Kept(**given)({'inputs': inputs})
    assert normal.mean((0, 2, 3)).abs().max() < 1e-3
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_masks_and_16_bits(report, tmp_path) -> None:
    config = write_segmentation(tmp_path)
    found = report.main([str(config), '--out', str(tmp_path / 'out')])
    heat = found['modalities']['ir']
    assert (heat['type'], heat['bits'], heat['channels']) == ('uint16', 15, 1)
    assert np.allclose(heat['mean'], pixels(tmp_path.glob('thermal/*')).mean())
    assert heat['histogram']['range'] == [heat['low'], heat['high']]
    assert found['labels']['classes'] == {'ground': 0.75, 'leaf': 0.25, 'other': 0}
    assert '| leaf | 25.00% |' in (tmp_path / 'out/report.md').read_text()


def write(path: Path, img: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), img)


def test_folders_are_paired_by_stem_and_light_told(report, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for k, level in enumerate([10, 20, 150]):
        colour = rng.integers(level, level + 20, (16, 20, 3), np.uint8)
        write(tmp_path / f'rgb/a/{k}.png', colour)
        if k:
            write(tmp_path / f'ir/a/{k}.tiff', colour[..., 0].astype(np.uint16) * 256)
    folders = [f'rgb={tmp_path}/rgb', f'ir={tmp_path}/ir']
    found = report.main([*folders, '--out', str(tmp_path / 'out')])
    assert (found['samples'], found['complete']) == (3, 2)
    assert found['modalities']['ir']['absent'] == 1
    assert found['modalities']['ir']['type'] == 'uint16'
    light = found['brightness']
    assert (light['modality'], light['night'], light['day']) == ('rgb', 2, 1)
    assert sum(light['counts']) == 3
    assert found['labels'] is None
    found = report.main([*folders, '--night-below', '25', '--force', '--number', '3',
                         '--out', str(tmp_path / 'out')])  # fmt: skip
    assert found['brightness']['night'] == 1
    # the same picture in both, but for the other channels of the visible one
    assert found['correlation']['rgb, ir']['high']['mean'] > 0


def test_commands_of_the_page_run_one_after_the_other(
    report, tmp_path, monkeypatch
) -> None:
    config, root = write_detection(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / 'docs/seeing.md').read_text()
    commands = re.findall(r'python tools/analysis_tools/dataset_report.py (.*)', page)
    given = {
        'CONFIG': str(config),
        'rgb=FOLDER': f'rgb={root}/train/RGB',
        'ir=FOLDER': f'ir={root}/train/thermal_8_bit',
    }
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command, comments=True)
        found = report.main([given.get(word, word) for word in words])
        assert (found['samples'], found['complete']) == (3, 3)
        assert (found['labels'] is None) == ('CONFIG' not in words)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['ir=nowhere'], 'image folder not found: nowhere'),
        (['CONFIG', 'ir=x'], 'one config, or folders'),
        (['CONFIG', '--workers', '0'], '--workers and --number must be at least 1'),
        (['ir=EMPTY'], r'no images \(\.jpg'),
    ],
)
def test_what_the_user_can_put_right_is_said(
    report, tmp_path, arguments, message
) -> None:
    (tmp_path / 'empty').mkdir()
    arguments = [a.replace('EMPTY', str(tmp_path / 'empty')) for a in arguments]
    with pytest.raises((UserError, FileNotFoundError), match=message):
        report.main([*arguments, '--out', str(tmp_path / 'out')])


def test_bad_files_are_named(report, tmp_path) -> None:
    write(tmp_path / 'ir/a.png', np.ones((4, 4), np.uint8))
    write(tmp_path / 'ir/a.bmp', np.ones((4, 4), np.uint8))
    with pytest.raises(UserError, match=r'a\.bmp and .*a\.png have the same stem'):
        report.main([f'ir={tmp_path}/ir', '--out', str(tmp_path / 'out')])
    (tmp_path / 'ir/a.bmp').unlink()
    (tmp_path / 'ir/b.png').write_bytes(b'half a file')
    with pytest.raises(UserError, match=r'sample 1: image file is trunc.*b\.png'):
        report.main([f'ir={tmp_path}/ir', '--out', str(tmp_path / 'out')])
    write(tmp_path / 'ir/b.png', np.ones((4, 4), np.uint16))
    with pytest.raises(UserError, match='modality ir: an image of uint16'):
        report.main([f'ir={tmp_path}/ir', '--out', str(tmp_path / 'out')])


def test_real_aerial_images(report, tmp_path, real_data) -> None:
    folder = real_data / 'hituav/test'
    found = report.main([f'ir={folder}', '--number', '20', '--out', str(tmp_path)])
    row = found['modalities']['ir']
    assert row['grey']
    assert found['brightness'] is None
    assert 0.5 < row['energy']['low'] < 1  # natural images: mostly coarse structure
    power = row['spectrum']['power']
    assert power[1] > 100 * power[len(power) // 2]
