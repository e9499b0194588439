"""Missing data: the dataset or its host reports it, and train.py shows it."""

import runpy
from pathlib import Path

import pytest

from mmir.cli import cli

ROOT = Path(__file__).parents[2]
main = runpy.run_path(str(ROOT / 'tools/train.py'))['main']
STOCK = """
_base_ = '{root}/configs/tensorfact/yolo-tiny_flir_1pct_full.py'
data_root = '/data'
train_dataloader = dict(dataset=dict(
    _delete_=True, type='mmdet.CocoDataset', data_root='/data', ann_file='train.json',
    data_prefix=dict(img='train/'), pipeline=[]))
"""


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('stock.py', "No such file or directory: '/no/where/train.json'"),
        ('configs/tensorfact/yolo-tiny_flir_1pct.py', 'no FLIR ADAS data (train) in'),
        ('configs/fusion/deeplabv3plus_r18_msrs_rgb.py', 'no MSRS data (train) in'),
    ],
)
def test_missing_data_is_one_message_and_exit_code_2(
    tmp_path, monkeypatch, capsys, name, message
):
    monkeypatch.chdir(tmp_path)
    for switch in ('FORCE_WEIGHTS_ONLY_LOAD', 'FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.setenv(f'TORCH_{switch}', '')
        monkeypatch.delenv(f'TORCH_{switch}')
    monkeypatch.setenv('LOCAL_RANK', '0')
    Path('stock.py').write_text(STOCK.format(root=ROOT))
    args = ['--work-dir', 'w', '--cfg-options', 'data_root=/no/where', 'load_from=None']
    config = name if name == 'stock.py' else str(ROOT / name)
    assert cli.run(lambda: main([config, *args])) == 2
    error = capsys.readouterr().err.partition('error: ')[2]
    assert message in error.splitlines()[0]
    assert '/no/where' in error
    assert 'Traceback' not in error
