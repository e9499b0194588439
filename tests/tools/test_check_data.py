"""Tool that checks the data of a config."""

import subprocess
import sys
from pathlib import Path

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


def run(config: Path) -> subprocess.CompletedProcess:
    script = str(ROOT / 'tools/analysis_tools/check_data.py')
    return subprocess.run(
        [sys.executable, script, str(config)],
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
