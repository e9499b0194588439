"""Tool that checks the data of a config."""

import subprocess
import sys
from pathlib import Path

import pytest
from coco_files import write_flir_v13

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
default_scope = 'mmdet'
train_dataloader = dict(
    dataset=dict(
        type='mmir.FLIRDataset',
        data_root={root!r},
        pipeline=[dict(type='mmir.LoadThermalImage')],
    )
)
val_dataloader = train_dataloader
"""


def run(config: Path | str, *more: str) -> subprocess.CompletedProcess:
    script = str(ROOT / 'tools/analysis_tools/check_data.py')
    return subprocess.run(
        [sys.executable, script, str(config), *more],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )


def test_the_exit_code_tells(tmp_path: Path) -> None:
    root = write_flir_v13(tmp_path / 'flir')
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(root=str(root)))
    good = run(config)
    assert good.returncode == 0, good.stderr
    # the second loader reads the same data
    assert good.stdout.count('samples: 3\n  no problems') == 1

    broken = next((root / 'train/thermal_8_bit').iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    bad = run(config)
    assert bad.returncode == 2
    assert str(broken) in bad.stdout
    assert '1 problems, listed above' in bad.stderr


def test_data_root_moves_every_path(tmp_path: Path) -> None:
    """As in train.py: the copy given is read, not the one that the config names."""
    there, other = tmp_path / 'there', tmp_path / 'other'
    write_flir_v13(there)
    write_flir_v13(other, number=5)
    config = tmp_path / 'config.py'
    config.write_text(f'data_root = {str(there)!r}\n' + CONFIG.format(root=str(there)))
    moved = run(config, '--cfg-options', f'data_root={other}')
    assert moved.returncode == 0, moved.stderr
    assert 'samples: 5' in moved.stdout
    assert 'samples: 3' not in moved.stdout
    unknown = run(config, '--cfg-options', 'train_dataloadr.batch_size=1')
    assert unknown.returncode == 2
    assert 'train_dataloader' in unknown.stderr


@pytest.mark.skipif(
    not (ROOT / 'mmir/.mim').exists(), reason='`mmir::` needs an installed checkout'
)
def test_packaged_configs_and_the_other_splits(tmp_path: Path) -> None:
    """A split that cannot be read is named, and the next one is checked."""
    root = write_flir_v13(tmp_path / 'flir')
    path = root / 'train/thermal_annotations.json'
    path.write_bytes(path.read_bytes()[:-3])
    found = run(
        'mmir::tensorfact/yolo-tiny_flir_1pct.py', '--cfg-options', f'data_root={root}'
    )
    assert found.returncode == 2
    assert 'train/thermal_annotations.json is not a complete JSON file' in found.stdout
    assert 'val\n  samples: 3\n' in found.stdout
    assert found.stdout.count('PROBLEM') == 1


def test_damage_inside_a_jpeg_is_named(tmp_path: Path) -> None:
    root = write_flir_v13(tmp_path / 'flir')
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(root=str(root)))
    broken = next((root / 'train/thermal_8_bit').iterdir())
    data = broken.read_bytes()
    middle = (data.index(b'\xff\xda') + len(data)) // 2
    broken.write_bytes(data[:middle] + data[middle + 40 :])
    bad = run(config)
    assert bad.returncode == 2
    assert f'{broken}: JPEG data is damaged (Corrupt JPEG data' in bad.stdout
    assert '1 problems, listed above' in bad.stderr
