import json
import logging
from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import HOOKS

from mmir.engine import subset_record
from mmir.engine.subset_record import SubsetRecordHook


class Chosen(BaseDataset):
    """A dataset with the attributes that the hook reads."""

    def __init__(self, files, subset=None):
        self.chosen = files
        self.subset = subset or {'num': 2, 'seed': 0}
        super().__init__(ann_file='data/train.json')

    def load_data_list(self):
        return [{}, {}]


def runner_of(folder, train, val=None):
    def loop(dataset):
        return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))

    return SimpleNamespace(
        work_dir=str(folder),
        train_loop=loop(train),
        val_loop=val and loop(val),
        logger=logging.getLogger('test'),
    )


def test_writes_what_can_be_read_again(tmp_path):
    val = Chosen(None)
    SubsetRecordHook().before_train(runner_of(tmp_path, Chosen(['a', 'b']), val))
    assert [path.name for path in tmp_path.iterdir()] == ['subset_train.json']
    assert json.loads((tmp_path / 'subset_train.json').read_text()) == {
        'ann_file': 'data/train.json',
        'subset': {'num': 2, 'seed': 0},
        'num': 2,
        'files': ['a', 'b'],
    }


def test_looks_into_wrappers_and_validation(tmp_path):
    train = ConcatDataset([Chosen(['a']), Chosen(['b'])])
    val = RepeatDataset(Chosen(['c']), times=2)
    SubsetRecordHook().before_train(runner_of(tmp_path, train, val))
    files = {p.name: json.loads(p.read_text())['files'] for p in tmp_path.iterdir()}
    assert files == {
        'subset_train.json': ['a'],
        'subset_train_1.json': ['b'],
        'subset_val.json': ['c'],
    }


@pytest.mark.parametrize('files', [('x', 'y'), 'list.txt'])
def test_lists_are_recorded_in_plain_types(tmp_path, files):
    dataset = Chosen(['x'], {'files': files})
    HOOKS.build({'type': 'SubsetRecordHook'}).before_train(runner_of(tmp_path, dataset))
    record = json.loads((tmp_path / 'subset_train.json').read_text())
    assert record['subset'] == {'files': list(files) if len(files) == 2 else files}


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(subset_record, 'is_main_process', lambda: False)
    SubsetRecordHook().before_train(runner_of(tmp_path, Chosen(['a'])))
    assert not list(tmp_path.iterdir())
