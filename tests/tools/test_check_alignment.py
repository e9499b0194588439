"""Tool that finds misaligned pairs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from mmir.testing.scenes import render_scene
from mmir.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
default_scope = 'mmdet'
custom_imports = dict(imports=['mmir'])
test_dataloader = dict(dataset=dict(
    type='RepeatDataset', times=1, dataset=dict(
        type='mmir.FLIRDataset', modality='both', split='val', data_root={root!r},
        test_mode=True, pipeline=[dict(
            type='mmir.LoadPairedImages', reference='ir',
            modalities=dict(rgb={{}}, ir=dict(channels=1)))])))
"""


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    path = ROOT / 'tools/analysis_tools/check_alignment.py'
    spec = importlib.util.spec_from_file_location('check_alignment', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs: the third out of place, the fourth flat; one without partner."""
    root = tmp_path_factory.mktemp('pairs')
    for name in ('set/ir', 'set/rgb'):
        (root / name).mkdir(parents=True)
    for k, shift in enumerate([(0, 0), (0, 0), (6, -4), (0, 0)]):
        scene = render_scene(k, (320, 256), night=False, baseline=0)
        rgb = np.full_like(scene.rgb, 9) if k == 3 else scene.rgb
        dx, dy = shift
        rgb = np.roll(rgb, (dy, dx), (0, 1))
        cv2.imwrite(str(root / f'set/ir/{k}_ir.png'), scene.thermal8)
        cv2.imwrite(str(root / f'set/rgb/{k}_vis.jpg'), rgb)
    cv2.imwrite(str(root / 'set/ir/7_ir.png'), scene.thermal8)
    cv2.imwrite(str(root / 'set/rgb/8_vis.jpg'), rgb)
    (root / 'set/ir/9_ir.png').write_bytes(b'\x89PNG')
    cv2.imwrite(str(root / 'set/rgb/9_vis.jpg'), rgb)
    return root


def read(out: Path) -> dict:
    return json.loads((out / 'alignment.json').read_text())


def check_report(report: dict) -> None:
    summary, rows = report['summary'], report['pairs']
    assert summary['measured'] == 4
    assert summary['low_confidence'] == 1
    assert summary['share_above'] == pytest.approx(1 / 3)
    assert summary['median_shift'] < 1
    np.testing.assert_allclose(rows[2]['shift'], (6, -4), atol=1)
    assert [row['reliable'] for row in rows] == [True, True, True, False]
    assert '7_ir.png' in report['problems']['without partner'][0]
    (broken,) = report['problems']['could not be measured']
    assert '9_ir.png' in broken


def test_two_folders(
    tool: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['--stem', '_ir', '_vis', '--out', str(tmp_path), '--window', '24']
    tool.main([str(folder / 'set/ir'), str(folder / 'set/rgb'), *arguments])
    report = read(tmp_path)
    check_report(report)
    extra = report['problems']['unused partners']
    assert [Path(name).name for name in extra] == ['8_vis.jpg']
    picture = cv2.imread(str(tmp_path / 'worst.png'))
    assert picture is not None
    assert picture.std() > 20
    printed = capsys.readouterr().out
    assert 'pairs measured               4' in printed
    assert '|shift| > 4 px             33.3 %' in printed
    assert 'without partner: 1' in printed
    assert '7_ir.png' in printed


def test_a_folder_rule_with_a_given_suffix(
    tool: ModuleType, folder: Path, tmp_path: Path
) -> None:
    arguments = ['--folder', 'ir', 'rgb', '--stem', '_ir', '_vis', '--suffix', '.jpg']
    tool.main([str(folder), *arguments, '--out', str(tmp_path), '--window', '24'])
    check_report(read(tmp_path))


def test_the_worst_come_first_and_doubtful_ones_not_at_all(tool: ModuleType) -> None:
    def result(dx: float, confidence: float) -> tuple:
        return None, tool.Alignment((dx, 0.0), 0.1, 0.2, confidence)

    pairs = [result(1, 2), result(30, 0.1), result(-5, 2), result(3, 2)]
    assert [r.shift[0] for _, r in tool.worst_of(pairs, 2)] == [-5, 3]
    summary = tool.summarize([pairs[1][1]], 4)
    assert summary == dict(measured=1, low_confidence=1, threshold=4)
    assert '1' in tool.table(summary, {})


def test_a_config_gives_the_files_its_dataset_reads(
    tool: ModuleType, tmp_path: Path
) -> None:
    pytest.importorskip('mmdet')
    from mmir.testing.scenes import write_flir

    root = tmp_path / 'flir'
    write_flir(root, train=1, val=3, seed=4, size=(320, 256))
    rgb = sorted((root / 'val/RGB').iterdir())
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(root=str(root)))
    rgb[0].unlink()
    tool.main([str(config), '--out', str(tmp_path / 'out')])
    report = read(tmp_path / 'out')
    assert report['summary']['measured'] == 2
    assert len(report['problems']['without partner']) == 1
    assert all('thermal_8_bit' in row['reference'] for row in report['pairs'])
    assert all('/RGB/' in row['moving'] for row in report['pairs'])
    with pytest.raises(UserError, match=r"--modalities: \['nir'\] not among"):
        tool.main([str(config), '--modalities', 'nir', 'rgb'])


def test_what_the_user_can_put_right_is_said(
    tool: ModuleType, folder: Path, tmp_path: Path
) -> None:
    for arguments, message in (
        ([str(tmp_path / 'none'), 'x'], 'folder not found: .*none'),
        ([str(tmp_path), 'x'], 'no images .* in'),
        ([str(folder / 'set/ir')], 'name the folder of the other images'),
        ([str(folder), '--folder', 'nir', 'rgb'], "no images below a folder 'nir'"),
        ([str(tmp_path / 'none.py')], 'no config'),
    ):
        with pytest.raises((UserError, FileNotFoundError), match=message):
            tool.main(arguments)
    config = tmp_path / 'config.py'
    config.write_text('test_dataloader = dict(dataset=dict(pipeline=[]))')
    with pytest.raises(UserError, match=r'no mmir\.LoadPairedImages'):
        tool.main([str(config)])


def test_names_that_differ_in_their_start(
    tool: ModuleType, folder: Path, tmp_path: Path
) -> None:
    """Both cameras in one folder, or in two; a name with two partners is no pair."""
    root = tmp_path / 'mixed'
    root.mkdir()
    for k in range(4):
        thermal = (folder / f'set/ir/{k}_ir.png').read_bytes()
        (root / f'ir_{k}.png').write_bytes(thermal)
        (root / f'rgb_{k}.JPG').write_bytes(
            (folder / f'set/rgb/{k}_vis.jpg').read_bytes()
        )
    (root / 'ir_5.png').write_bytes(thermal)
    (root / 'rgb_3.jpg').write_bytes((root / 'rgb_3.JPG').read_bytes())
    for partners in ((), (str(root),)):
        arguments = ['--prefix', 'ir_', 'rgb_', '--window', '24']
        tool.main([str(root), *partners, *arguments, '--out', str(tmp_path / 'out')])
        report = read(tmp_path / 'out')
        names = [
            (Path(row['reference']).name, Path(row['moving']).name)
            for row in report['pairs']
        ]
        assert names == [(f'ir_{k}.png', f'rgb_{k}.JPG') for k in range(3)]
        np.testing.assert_allclose(report['pairs'][2]['shift'], (6, -4), atol=1)
        lone = report['problems']['without partner']
        assert any('ir_5.png' in line for line in lone)
        assert any('rgb_3.JPG' in line and 'rgb_3.jpg' in line for line in lone)


def test_options_of_a_config(tool: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    from mmir.testing.scenes import write_flir

    roots = [tmp_path / name for name in ('one', 'two')]
    for count, root in enumerate(roots, 1):
        write_flir(root, train=1, val=count, seed=4, size=(320, 256))
    config, out = tmp_path / 'config.py', str(tmp_path / 'out')
    config.write_text(
        f'data_root = {str(roots[0])!r}\n' + CONFIG.format(root=str(roots[0]))
    )
    options = ['--cfg-options', f'data_root={roots[1]}']
    tool.main([str(config), '--out', out, *options])
    rows = read(tmp_path / 'out')['pairs']
    assert len(rows) == 2
    assert all(row['reference'].startswith(str(roots[1])) for row in rows)
