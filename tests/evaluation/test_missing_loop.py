import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement
from paired_toy import ToySet, ToyViews, toy_runner
from torch import multiprocessing

from mmir.evaluation.missing_loop import all_subsets, subset_label, take_away
from mmir.structures import PairError
from mmir.transforms.missing import DropModality

approx = pytest.approx
LOOP = dict(type='MissingModalityTestLoop')


class Events(Hook):
    """Counts the calls and keeps the metrics."""

    def __init__(self):
        self.calls, self.metrics = Counter(), []

    def before_test(self, runner):
        self.calls['before_test'] += 1

    def before_test_epoch(self, runner):
        self.calls['before_epoch'] += 1

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.calls[f'iter {batch_idx}'] += 1

    def after_test_epoch(self, runner, metrics=None):
        self.metrics.append(metrics)

    def after_test(self, runner):
        self.calls['after_test'] += 1


def assert_close(one, two):
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert value == (two[key] if isinstance(value, str) else approx(two[key]))


def test_each_subset_equals_a_test_whose_pipeline_drops(tmp_path):
    names = ('rgb', 'ir', 'depth')
    found = toy_runner(tmp_path / 'all', LOOP, ToySet(names=names)).test()
    subsets = all_subsets(names)
    assert len(subsets) == 7
    wanted = {}
    for subset in subsets:
        steps = [DropModality(subset=subset)]
        plain = toy_runner(tmp_path / 'one', {}, ToySet(names=names, steps=steps))
        label = '+'.join(subset)
        wanted |= {f'{label}/{k}': v for k, v in plain.test().items()}
    assert found == wanted
    assert found['ir/toy/rgb_absent'] == 1
    assert found['ir/toy/rgb_mean'] == 0
    assert found['rgb+ir+depth/toy/rgb_absent'] == 0
    assert found['rgb+depth/toy/count'] == 5


@pytest.mark.parametrize('fill', ['zero', 'noise'])
def test_stand_ins_are_not_told(tmp_path, fill):
    runner = toy_runner(tmp_path, dict(**LOOP, fills=['absent', fill]), ToySet())
    found = runner.test()
    labels = ['rgb', f'rgb+ir({fill})', 'ir', f'rgb({fill})+ir', 'rgb+ir']
    assert list(dict.fromkeys(key.split('/')[0] for key in found)) == labels
    assert found['rgb/toy/ir_absent'] == 1
    assert found[f'rgb+ir({fill})/toy/ir_absent'] == 0
    same = [f'{name}/toy/rgb_mean' for name in ('rgb', f'rgb+ir({fill})', 'rgb+ir')]
    assert len({found[key] for key in same}) == 1
    mean = found[f'rgb+ir({fill})/toy/ir_mean']
    assert mean == 0 if fill == 'zero' else abs(mean - 127.5) < 10
    if fill == 'zero':
        steps = [DropModality(subset=('rgb',), fill='zero')]
        plain = toy_runner(tmp_path, {}, ToySet(steps=steps)).test()
        assert plain == {
            k.partition('/')[2]: v for k, v in found.items() if '+ir(zero)' in k
        }


def test_labels_and_data_stay_and_metadata_reach_the_model(tmp_path):
    data = ToySet(length=3)
    runner = toy_runner(tmp_path, LOOP, data)
    runner.test()
    passes = np.split(np.arange(9), 3)
    for gone, rows in zip([('ir',), ('rgb',), ()], passes, strict=True):
        for k, row in enumerate(rows):
            img, sample = runner.model.seen[row]
            assert sample.absent == gone
            assert sample.label == k
            original = data[k]['inputs'].float()
            kept = [0, 1, 2] * ('rgb' not in gone) + [3] * ('ir' not in gone)
            torch.testing.assert_close(img[kept].float(), original[kept])
            assert img.float().abs().sum() == original[kept].sum()


def test_hooks_see_one_epoch_and_every_iteration(tmp_path):
    events = Events()
    found = toy_runner(tmp_path, LOOP, ToySet(), [events]).test()
    once = dict(before_test=1, before_epoch=1, after_test=1)
    assert events.calls == once | {'iter 0': 3, 'iter 1': 3, 'iter 2': 3}
    assert events.metrics == [found]


def test_the_logger_gets_all_metrics_once(tmp_path):
    runner = toy_runner(tmp_path, LOOP, ToySet())
    found = runner.test()
    logged = json.loads((Path(runner.log_dir) / f'{runner.timestamp}.json').read_text())
    for key, value in found.items():
        assert logged[key] == value
    lines = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'test pass 2 of 3: ir' in lines
    assert lines.count('| modalities |') == 1


def test_table_and_record(tmp_path):
    loop = dict(**LOOP, metrics=['toy/ir_mean', 'toy/count'])
    runner = toy_runner(tmp_path, loop, ToySet())
    found = runner.test()
    folder = Path(runner.log_dir)
    lines = (folder / 'modality_subsets.md').read_text().splitlines()
    assert lines[0] == '| modalities | toy/ir_mean | toy/count |'
    assert [line.split(' | ')[0] for line in lines[2:]] == ['| rgb', '| ir', '| rgb+ir']
    assert lines[2] == '| rgb | 0 | 5 |'
    assert lines[3] == f'| ir | {found["ir/toy/ir_mean"]:.4g} | 5 |'
    record = json.loads((folder / 'modality_subsets.json').read_text())
    assert record['seed'] == 0
    flat = {
        f'{name}/{key}': value
        for name, row in record['results'].items()
        for key, value in row.items()
    }
    assert flat == {k: v for k, v in found.items() if not k.endswith('names')}
    assert not list(folder.glob('.*'))


def test_an_interrupted_run_leaves_what_is_done(tmp_path):
    class Stop(Hook):
        left = 4

        def before_test_iter(self, runner, batch_idx, data_batch=None):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    runner = toy_runner(tmp_path, LOOP, ToySet(), [Stop()])
    with pytest.raises(KeyboardInterrupt):
        runner.test()
    record = json.loads((Path(runner.log_dir) / 'modality_subsets.json').read_text())
    assert list(record['results']) == ['rgb']


def test_chosen_subsets_end_with_the_most_complete(tmp_path):
    loop = dict(**LOOP, subsets=[('rgb', 'ir'), ['ir']])
    found = toy_runner(tmp_path, loop, ToySet()).test()
    assert list(dict.fromkeys(k.split('/')[0] for k in found)) == ['ir', 'rgb+ir']


def test_a_misspelt_metric_is_told_after_the_first_pass(tmp_path):
    runner = toy_runner(tmp_path, dict(**LOOP, metrics=['toy/mAP']), ToySet())
    runner.test()
    lines = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert "no metrics ['toy/mAP'] for the tables; it has ['toy/count'" in lines
    assert '| ir | - |' in lines


def test_views_of_test_time_augmentation(tmp_path):
    found = toy_runner(tmp_path, dict(**LOOP, fills=['absent', 'noise']), ToyViews())
    plain = toy_runner(tmp_path, dict(**LOOP, fills=['absent', 'noise']), ToySet())
    runs = [runner.test() for runner in (found, plain)]
    assert_close(*runs)
    # the noise of the mirror image is the mirrored noise
    image = found.model.seen
    untold = [(x, s) for x, s in image if s.img_path.endswith('rgb/0.png')]
    halves = (
        [x for x, s in untold if not s.get('flip')],
        [x for x, s in untold if s.get('flip')],
    )
    for one, two in zip(*halves, strict=True):
        assert torch.equal(one, two.flip(-1))


def test_noise_does_not_depend_on_the_batches(tmp_path):
    loop = dict(**LOOP, fills=['noise'])
    runs = [
        toy_runner(tmp_path, loop, ToySet(), batch_size=size).test() for size in (1, 4)
    ]
    assert_close(*runs)
    other = toy_runner(tmp_path, dict(**loop, seed=1), ToySet()).test()
    key = 'rgb+ir(noise)/toy/ir_mean'
    assert other[key] != runs[0][key]
    assert other['rgb+ir/toy/ir_mean'] == approx(runs[0]['rgb+ir/toy/ir_mean'])


def test_stacked_batches(tmp_path):
    data = ToySet(length=2)
    samples = [data[k]['data_samples'] for k in range(2)]
    stacked = torch.stack([data[k]['inputs'] for k in range(2)])
    for fill in ('absent', 'zero', 'noise'):
        lists = dict(inputs=list(stacked), data_samples=samples)
        one = take_away(dict(inputs=stacked, data_samples=samples), ['ir'], fill)
        two = take_away(lists, ['ir'], fill)
        assert one['inputs'].shape == stacked.shape
        assert torch.equal(one['inputs'], torch.stack(two['inputs']))
        assert torch.equal(one['inputs'][:, :3], stacked[:, :3])
        assert stacked[:, 3].min() >= 40


def test_labels_of_three():
    names = ('rgb', 'ir', 'depth')
    assert subset_label(names, ('depth', 'rgb'), 'absent') == 'rgb+depth'
    assert subset_label(names, ('ir',), 'noise') == 'rgb(noise)+ir+depth(noise)'


def test_one_modality_is_refused(tmp_path):
    runner = toy_runner(tmp_path, LOOP, ToySet(names=('ir',)))
    with pytest.raises(PairError, match=r"one modality, \('ir',\).*plain TestLoop"):
        runner.test()


def test_unpaired_samples_are_refused(tmp_path):
    class Single(ToySet):
        def __getitem__(self, index):
            sample = BaseDataElement(metainfo=dict(img_path='a.png'))
            return dict(inputs=torch.zeros(3, 4, 4), data_samples=sample)

    with pytest.raises(PairError, match=r'no paired samples.*PackPairedInputs'):
        toy_runner(tmp_path, LOOP, Single()).test()


def test_a_sample_that_a_subset_empties_is_named(tmp_path):
    data = ToySet(absent={2: ('rgb',)})
    with pytest.raises(PairError, match=r'without ir.*data/rgb/2\.png.*subsets'):
        toy_runner(tmp_path, LOOP, data).test()
    loop = dict(**LOOP, subsets=[('ir',), ('rgb', 'ir')])
    found = toy_runner(tmp_path, loop, data).test()
    assert found['rgb+ir/toy/rgb_absent'] == approx(1 / 5)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(fills=['mean']), ValueError, 'fills must be some of'),
        (dict(fills='zero'), ValueError, 'fills must be some of'),
        (dict(subsets=['ir']), ValueError, 'sequences of names'),
        (dict(subsets=[()]), ValueError, 'sequences of names'),
        (dict(subsets=[('nir',)]), PairError, r"unknown modalities \['nir'\]"),
    ],
)
def test_bad_options(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        toy_runner(tmp_path, dict(**LOOP, **options), ToySet()).test()


def _rank(rank, folder):
    """One of two ranks; the first writes what came out."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2
    )
    found = {}
    for loop in (
        dict(**LOOP, fills=['absent', 'noise']),
        dict(type='CorruptionTestLoop', strengths=[3]),
    ):
        found |= toy_runner(f'{folder}/runs', loop, ToySet()).test()
    Path(folder, f'{rank}.json').write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    ranks = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    alone = toy_runner(
        tmp_path, dict(**LOOP, fills=['absent', 'noise']), ToySet()
    ).test()
    alone |= toy_runner(
        tmp_path, dict(type='CorruptionTestLoop', strengths=[3]), ToySet()
    ).test()
    assert_close(alone, ranks[0])
    assert list((tmp_path / 'runs').glob('*/modality_subsets.json'))
