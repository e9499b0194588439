"""Running of stages and reading of their logs."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from mmir.cli import stages


def scalars(work_dir: Path, run: str, rows: list[dict]) -> None:
    folder = work_dir / run / 'vis_data'
    folder.mkdir(parents=True)
    lines = '\n'.join(json.dumps(row) for row in rows)
    (folder / 'scalars.json').write_text(lines + '\n')


def test_scalars_of_the_latest_start(tmp_path: Path) -> None:
    scalars(tmp_path, '20260101_000000', [dict(step=1, loss=9.0)])
    rows = [dict(step=1, loss=3.0), dict(step=2, mAP=0.5), dict(step=3, loss=1.0)]
    scalars(tmp_path, '20260102_000000', rows)
    read = stages.read_scalars(tmp_path)
    assert stages.curve(read, 'loss') == ([1, 3], [3.0, 1.0])
    assert stages.curve(read, 'mAP') == ([2], [0.5])
    with pytest.raises(FileNotFoundError, match='no log'):
        stages.read_scalars(tmp_path / '20260101_000000')


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for train.py that prints what mmengine would."""
    monkeypatch.setattr(stages, 'tools_folder', lambda: tmp_path)
    return tmp_path / 'train.py'


def test_progress_follows_the_log(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script.write_text(
        'print("train_cfg = dict(max_epochs=4)")\n'
        'print("Epoch(train)  [2][ 5/10]  lr: 1e-3  loss: 0.25  loss_box: 1.0")\n'
    )
    assert stages.train_stage(['c.py'], tmp_path / 'run', 'stage one') > 0
    shown = capsys.readouterr().err
    assert '1.5/4' in shown
    assert 'loss=0.25' in shown
    assert 'max_epochs=4' in (tmp_path / 'run/output.log').read_text()


def test_a_failed_stage_shows_the_end_of_its_output(
    script: Path, tmp_path: Path
) -> None:
    script.write_text('import sys\nprint("the reason")\nsys.exit(3)\n')
    with pytest.raises(stages.StageError, match='exit code 3'):
        stages.train_stage([], tmp_path / 'run', 'stage')


def test_parameters_are_counted_by_whether_they_train() -> None:
    config = Config.fromfile(stages.ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct.py')
    trainable, total = stages.count_parameters(config)
    plain = _plain(config)
    convs = [
        m
        for name, m in plain.named_modules()
        if isinstance(m, nn.Conv2d) and not name.startswith('bbox_head')
    ]
    # rank 12 of each kernel as a matrix of outputs x inputs, all wider than 12
    updates = 12 * sum(len(c.weight) + c.weight[0].numel() for c in convs)
    norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    assert total == 6_020_400 + updates
    assert trainable == updates + 22_544 + 2 * sum(m.num_features for m in norms)


def _plain(config: Config) -> nn.Module:
    """Return the network without adapters."""
    from mmengine.registry import MODELS

    plain = copy.deepcopy(config)
    plain.model.adapt = None
    return MODELS.build(plain.model)


def test_tools_are_those_of_the_checkout() -> None:
    assert (stages.tools_folder() / 'train.py').is_file()
