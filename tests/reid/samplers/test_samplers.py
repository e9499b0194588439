"""Samplers by identity: the published stream, shares of processes, resuming."""

import numpy as np
import pytest
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from sysu_counts import COUNTS, images

from mmir.reid import CrossModalIdentitySampler, IdentitySampler
from mmir.reid.samplers import labels as shares
from mmir.utils.errors import UserError


class Labels:
    """Dataset of labels and modalities."""

    def __init__(self, labels, modalities):
        self.rows = [
            dict(gt_label=int(label), modality=modality)
            for label, modality in zip(labels, modalities, strict=True)
        ]

    def get_data_info(self, k):
        return self.rows[k]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        return self.rows[k]


def sysu():
    ids = sorted(COUNTS['train_ids'] + COUNTS['val_ids'])
    label = {pid: k for k, pid in enumerate(ids)}
    rgb = [label[pid] for pid, _, _ in images((1, 2, 4, 5), ids)]
    ir = [label[pid] for pid, _, _ in images((3, 6), ids)]
    return Labels(rgb + ir, ['rgb'] * len(rgb) + ['ir'] * len(ir)), len(rgb)


def small(ids=6, rgb=5, ir=3):
    labels = [k for k in range(ids) for _ in range(rgb)]
    labels += [k for k in range(ids) for _ in range(ir)]
    return Labels(labels, ['rgb'] * (ids * rgb) + ['ir'] * (ids * ir))


def test_the_stream_of_agw():
    """Epoch 7 is in a published training log: AGW, thread 27."""
    data, number = sysu()
    assert number == 22258
    sampler = CrossModalIdentitySampler(data, 8, 4, seed=0)
    first = sampler.draw(0)[:, 0].ravel()
    assert len(first) == 22272
    assert first[:4].tolist() == [20927, 20945, 20945, 20933]
    drawn = sampler.draw(7)
    rgb, ir = drawn[:, 0].ravel(), drawn[:, 1].ravel() - number
    assert rgb[[0, 1, 2, -3, -2, -1]].tolist() == [
        19199, 19201, 19203, 16944, 17016, 16951,
    ]  # fmt: skip
    assert ir[[0, 1, 2, -3, -2, -1]].tolist() == [8819, 8817, 8822, 7317, 7313, 7313]


def test_batches_pair_the_modalities():
    data = small()
    sampler = CrossModalIdentitySampler(data, 4, 2, seed=3)
    drawn = sampler.draw(0)
    assert drawn.shape == (30 // 8 + 1, 2, 4, 2)
    labels = np.array([row['gt_label'] for row in data.rows])[drawn]
    assert np.array_equal(labels[:, 0], labels[:, 1])
    assert (labels == labels[..., :1]).all()
    for batch in labels[:, 0, :, 0]:
        assert len(set(batch)) == 4
    assert (drawn[:, 0] < 30).all()
    assert (drawn[:, 1] >= 30).all()
    assert list(sampler) == drawn.ravel().tolist()
    assert len(sampler) == drawn.size


def test_epochs_continue_and_can_be_drawn_again():
    one, other = (CrossModalIdentitySampler(small(), 4, 2, seed=1) for _ in range(2))
    in_turn = [one.draw(epoch) for epoch in range(4)]
    assert np.array_equal(other.draw(3), in_turn[3])  # as after resuming
    assert np.array_equal(one.draw(1), in_turn[1])
    assert not np.array_equal(in_turn[0], in_turn[1])
    other.set_epoch(2)
    assert list(other) == in_turn[2].ravel().tolist()


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    CrossModalIdentitySampler(small(), 4, 2, seed=0).draw(2)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize('kind', [CrossModalIdentitySampler, IdentitySampler])
def test_processes_share_the_identities_of_a_batch(monkeypatch, kind):
    data = small()
    whole = kind(data, 4, 2, seed=5).draw(1)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(shares, 'get_dist_info', lambda rank=rank: (rank, 2))
        sampler = kind(data, 4, 2, seed=5)
        sampler.set_epoch(1)
        shape = (*whole.shape[:-2], 2, 2)
        parts.append(np.array(list(sampler)).reshape(shape))
        assert len(sampler) == parts[-1].size
    assert np.array_equal(np.concatenate(parts, axis=-2), whole)
    monkeypatch.setattr(shares, 'get_dist_info', lambda: (0, 3))
    with pytest.raises(UserError, match='cannot be split evenly among 3 processes'):
        kind(data, 4, 2)


def test_identity_sampler():
    labels = np.repeat(np.arange(7), [9, 2, 9, 9, 9, 9, 9])
    sampler = IdentitySampler(Labels(labels, [''] * 56), 3, 4, seed=0)
    drawn = sampler.draw(0)
    assert drawn.shape == (56 // 12, 3, 4)
    found = labels[drawn]
    assert (found == found[..., :1]).all()
    for batch, ids in zip(drawn, found[..., 0], strict=True):
        assert len(set(ids)) == 3
        for group, label in zip(batch, ids, strict=True):
            assert len(set(group)) == (4 if label != 1 else len(set(group)))
    assert set(drawn[found == 1]) <= {9, 10}
    assert len(set(found[:2].ravel())) == 6  # before an identity comes again
    assert np.array_equal(sampler.draw(0), drawn)
    assert not np.array_equal(sampler.draw(1), drawn)


def test_what_is_wrong_is_said():
    data = small()
    data.rows = [r for r in data.rows if r['gt_label'] != 2 or r['modality'] == 'rgb']
    with pytest.raises(UserError, match=r'1 of 6 identities have no ir image \(labels'):
        CrossModalIdentitySampler(data, 4, 2)
    data.rows = [r for r in data.rows if r['modality'] == 'rgb']
    with pytest.raises(UserError, match='6 of 6 identities have no ir image'):
        CrossModalIdentitySampler(data, 4, 2)
    for kind in (CrossModalIdentitySampler, IdentitySampler):
        with pytest.raises(
            UserError, match='needs 9 identities, but the dataset has 6'
        ):
            kind(small(), 9, 2)
    with pytest.raises(UserError, match='Labels has no samples with gt_label'):
        IdentitySampler(Labels([], []), 2, 2)


def loader_with(run_seed, **options):
    """Loader that mmengine builds for a run with this seed."""
    kind = dict(type='mmir.CrossModalIdentitySampler', ids_per_batch=4, images_per_id=2)
    loader = dict(
        dataset=small(), sampler=dict(kind, **options), batch_size=16, num_workers=0,
        collate_fn=dict(type='pseudo_collate'),
    )  # fmt: skip
    return Runner.build_dataloader(loader, seed=run_seed)


@pytest.mark.parametrize('kind', [CrossModalIdentitySampler, IdentitySampler])
def test_without_a_seed_processes_agree_on_one(monkeypatch, kind):
    monkeypatch.setattr(shares, 'sync_random_seed', lambda: 17)
    found, wanted = (kind(small(), 4, 2, seed=seed).draw(0) for seed in (None, 17))
    assert np.array_equal(found, wanted)


def test_the_seed_of_the_config_comes_before_that_of_the_run():
    assert loader_with(5).sampler.seed == 5
    assert loader_with(5, seed=0).sampler.seed == 0


def test_a_loader_of_mmengine_makes_the_batches():
    loader = loader_with(0)
    assert type(loader.sampler) is DATA_SAMPLERS.get('mmir.CrossModalIdentitySampler')
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    for batch in batches:
        assert batch['modality'] == ['rgb'] * 8 + ['ir'] * 8
        labels = [int(label) for label in batch['gt_label']]
        assert labels[:8] == labels[8:]
