"""Running stages and reading what they logged."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config

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
    # rank 8 of the 23 3x3 kernels (sum of T S: 440,416, each 9 pixels), 1x1 dense
    dense = 6_020_400
    factors = 8 * (440_416 + 23 * 9)
    delta = 440_416 + 23 * 9
    norms = 2 * sum(p for p in _widths(config))
    assert total == dense - 9 * 440_416 + factors + delta
    assert trainable == delta + 22_544 + norms


def _widths(config: Config) -> list[int]:
    """Channels of every batch norm of the dense network."""
    from mmengine.registry import MODELS
    from torch.nn import BatchNorm2d

    dense = copy.deepcopy(config)
    dense.model.factorize = None
    model = MODELS.build(dense.model)
    return [m.num_features for m in model.modules() if isinstance(m, BatchNorm2d)]


def test_tools_are_those_of_the_checkout() -> None:
    assert (stages.tools_folder() / 'train.py').is_file()
