"""The trials of RegDB: queue, results, and checkpoints of another trial."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paired_configs import tool

from mmir.testing.scenes.reid_layouts import write_regdb
from mmir.utils.errors import UserError

pytest.importorskip('mmpretrain')

CONFIG = """
_base_ = ['{root}/configs/agw/agw_r50_regdb.py']
data_root = '{data}'
model = dict(
    backbone=dict(backbone=dict(
        _delete_=True, type='mmpretrain.ResNet', depth=18, stem_channels=8,
        base_channels=8)),
    head=dict(in_channels=64, num_classes=4))
people = dict(data_root=data_root)
loader = dict(num_workers=0, persistent_workers=False, dataset=people)
train_dataloader = dict(loader, batch_size=4, sampler=dict(
    ids_per_batch=2, images_per_id=1))
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs=1)
param_scheduler = []
"""


@pytest.fixture
def trials():
    sub = Path(__file__).resolve().parents[2] / 'tools'
    with tool('reid_trials'):
        sys.path.insert(0, str(sub))
        import regdb_trials

        yield regdb_trials
        sys.path.remove(str(sub))


def checkpoint(folder: Path, trial: int) -> None:
    """Write the checkpoint of a trial."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = dict(dataset_meta=dict(training_split=f'RegDB trial {trial} (ab)'))
    torch.save(dict(meta=meta, state_dict={}), folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))


@pytest.fixture
def stages(trials, monkeypatch):
    """Training and test that only write files; the commands they were given."""
    calls = []

    def train(arguments, folder, title):
        calls.append(arguments)
        checkpoint(folder, int(title.split()[1]))
        return 0.0

    def evaluate(command, stdout, stderr, check):
        calls.append(command)
        value = 10.0 * len(calls)
        names = ('R1', 'R5', 'R10', 'R20', 'mAP', 'mINP')
        metrics = {f'regdb_rgb2ir/{name}': value for name in names}
        Path(command[-1]).write_text(json.dumps(dict(metrics=metrics)))
        return type('Done', (), dict(returncode=0))

    monkeypatch.setattr(trials, 'train_stage', train)
    monkeypatch.setattr(trials.subprocess, 'run', evaluate)
    return calls


AGW = str(Path(__file__).resolve().parents[2] / 'configs/agw/agw_r50_regdb.py')


def test_trials_are_run_once_and_averaged(trials, stages, tmp_path, capsys):
    command = [AGW, '--trials', '2', '5', '--out', str(tmp_path)]
    found = trials.main([*command, '--cfg-options', 'max_epochs=1'])
    assert len(stages) == 4
    assert stages[0][1:] == ['--resume', '--cfg-options', 'trial=2', 'max_epochs=1']
    assert stages[3][3] == str(tmp_path / 'trial_5/epoch_1.pth')
    assert found['regdb_rgb2ir']['mean']['mAP'] == 30  # of 20 and 40
    assert found['regdb_rgb2ir']['std']['R1'] == 10
    assert '2 of the 10 trials' in capsys.readouterr().out
    stored = json.loads((tmp_path / 'trials.json').read_text())
    assert (stored['trials'], stored['demo']) == ([2, 5], False)
    trials.main(command)
    assert len(stages) == 4


def test_checkpoints_of_another_trial_are_refused(trials, stages, tmp_path):
    checkpoint(tmp_path / 'trial_2', 3)
    with pytest.raises(
        UserError, match=r'trained on RegDB trial 3 .* trial 2 of RegDB'
    ):
        trials.main([AGW, '--trials', '2', '--out', str(tmp_path)])
    assert stages == []
    torch.save(dict(meta={}, state_dict={}), tmp_path / 'trial_2/epoch_1.pth')
    with pytest.raises(UserError, match='data that it does not name'):
        trials.main([AGW, '--trials', '2', '--out', str(tmp_path)])


def test_results_of_something_else_are_refused(trials, stages, tmp_path):
    command = ['--trials', '2', '--out', str(tmp_path)]
    trials.main([AGW, *command])
    path = tmp_path / 'trial_2/result.json'
    made = json.loads(path.read_text())
    for odd in (dict(config='other.py'), dict(demo=True)):
        path.write_text(json.dumps(made | odd))
        with pytest.raises(UserError, match='choose another --out'):
            trials.main([AGW, *command])


def test_other_datasets_have_no_trials(trials, tmp_path):
    with pytest.raises(UserError, match='only RegDB has trials'):
        trials.main([AGW.replace('regdb', 'sysu'), '--out', str(tmp_path)])


@pytest.mark.slow
def test_a_real_trial(trials, tmp_path):
    """Trains and tests; the checkpoint is refused for another trial by `test.py`."""
    data = write_regdb(tmp_path / 'data', 4, 4, 2, size=(32, 64), progress=False)
    config = tmp_path / 'config.py'
    root = Path(AGW).parents[2]
    config.write_text(CONFIG.format(root=root.as_posix(), data=data.as_posix()))
    out = tmp_path / 'out'
    found = trials.main([str(config), '--trials', '1', '--out', str(out)])
    assert 0 < found['regdb_ir2rgb']['mean']['mAP'] <= 100
    trained = str(out / 'trial_1/epoch_1.pth')
    command = [str(config), trained, '--cfg-options', 'trial=2']
    done = subprocess.run(
        [sys.executable, str(root / 'tools/test.py'), *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(root)},
        check=False,
    )
    assert done.returncode == 2
    assert 'error: the weights were trained on RegDB trial 1' in done.stderr
