import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from paired_toy import ToySet, ToyViews, toy_runner

from mmir.evaluation import CORRUPTIONS, default_corruptions
from mmir.evaluation.batches import change_modality, generator_of
from mmir.structures import PairError

LOOP = dict(type='CorruptionTestLoop')
SOME = dict(rgb=['low_light', 'noise'], ir=['misalignment'])


def values(found, name):
    return {k.removeprefix(name): v for k, v in found.items() if k.startswith(name)}


def test_clean_equals_a_plain_test_and_all_passes_are_there(tmp_path):
    found = toy_runner(tmp_path, LOOP, ToySet()).test()
    assert values(found, 'clean/') == toy_runner(tmp_path, {}, ToySet()).test()
    rows = ('rgb_noise', 'rgb_blur', 'rgb_low_light', 'ir_noise', 'ir_blur')
    rows += ('ir_washed_out', 'ir_misalignment')
    passes = dict.fromkeys(key.partition('/toy')[0] for key in found)
    assert [*passes] == [f'{r}/{s}' for r in rows for s in range(1, 6)] + ['clean']
    means = [found[f'rgb_low_light/{s}/toy/rgb_mean'] for s in range(1, 6)]
    assert found['clean/toy/rgb_mean'] > means[0]
    assert means == sorted(means, reverse=True)
    rough = [found[f'ir_noise/{s}/toy/ir_rough'] for s in range(1, 6)]
    assert rough == sorted(rough)


def test_one_modality_changes_and_nothing_else(tmp_path):
    data = ToySet(length=3)
    runner = toy_runner(tmp_path, LOOP, data)
    found = runner.test()
    for key, value in found.items():
        name = key.partition('_')[0]
        other = dict(rgb='ir', ir='rgb').get(name)
        if other and key.endswith((f'{other}_mean', f'{other}_rough', 'absent')):
            assert value == found['clean/' + key[key.index('toy/') :]]
    colour, thermal = slice(0, 3), slice(3, 4)
    for row, (img, sample) in enumerate(runner.model.seen):
        original = data[row % 3]['inputs']
        assert sample.label == row % 3
        assert sample.absent == ()
        assert img.dtype == original.dtype
        if row < 15 * 3:  # three RGB corruptions at five strengths
            kept = [thermal]
        else:  # the four kinds of infrared, and the clean images at the end
            kept = [colour] if row < 35 * 3 else [colour, thermal]
        for part in kept:
            assert torch.equal(img[part], original[part])
    assert len(runner.model.seen) == 36 * 3


def test_images_do_not_depend_on_batches_order_or_the_global_generator(tmp_path):
    runs = []
    for size, seed in ((1, 0), (4, 1)):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        loop = dict(**LOOP, corruptions=SOME, strengths=[2, 5])
        runner = toy_runner(tmp_path, loop, ToySet(), batch_size=size)
        runner.test()
        runs.append([img for img, _ in runner.model.seen])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    loop = dict(**LOOP, corruptions=SOME, strengths=[2, 5], seed=1)
    runner = toy_runner(tmp_path, loop, ToySet())
    runner.test()
    assert not torch.equal(runs[0][0], runner.model.seen[0][0])


def test_numbers_belong_to_the_files_wherever_they_lie():
    def draw(*paths, seed=0, purpose='noise'):
        meta = dict(img_paths=dict(zip(('rgb', 'ir'), paths, strict=True)))
        return generator_of(meta, seed, purpose).random()

    one = draw('/a/set/0001/rgb.png', '/a/set/0001/ir.png')
    assert one == draw('/b/set/0001/rgb.png', '/b/set/0001/ir.png')
    others = [
        draw('/a/set/0002/rgb.png', '/a/set/0002/ir.png'),
        draw('/a/set/0001/rgb.png', None),
        draw('/a/set/0001/rgb.png', '/a/set/0001/ir.png', seed=1),
        draw('/a/set/0001/rgb.png', '/a/set/0001/ir.png', purpose='blur'),
    ]
    assert len({one, *others}) == 5


def test_files_hold_tables_curves_and_settings(tmp_path):
    options = dict(corruptions=SOME, strengths=[1, 3], metrics=['toy/rgb_mean'])
    runner = toy_runner(tmp_path, dict(**LOOP, **options), ToySet())
    found = runner.test()
    folder = Path(runner.log_dir)
    lines = (folder / 'corruptions.md').read_text().splitlines()
    assert lines[:3] == [
        'toy/rgb_mean:',
        '',
        '| corruption | 0 | 1 | 3 | mean |',
    ]
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines[4:]]
    assert [row[0] for row in rows] == ['rgb_low_light', 'rgb_noise', 'ir_misalignment']
    keys = ['clean', 'rgb_low_light/1', 'rgb_low_light/3']
    numbers = [found[f'{key}/toy/rgb_mean'] for key in keys]
    numbers.append((numbers[1] + numbers[2]) / 2)
    assert rows[0][1:] == [f'{value:.4g}' for value in numbers]
    record = json.loads((folder / 'corruptions.json').read_text())
    assert record['strengths'] == [1, 3]
    assert record['levels']['noise'] == list(CORRUPTIONS['noise'].levels)
    assert record['results']['clean']['toy/count'] == 5
    picture = cv2.imread(str(folder / 'corruptions.png'))
    assert picture.std() > 5


def test_unfinished_tables_show_what_is_missing(tmp_path):
    loop = toy_runner(tmp_path, dict(**LOOP, strengths=[1, 2]), ToySet())
    loop = loop.build_test_loop(loop._test_loop)
    text = loop.tables({'rgb_noise/1': {'m': 0.5}}, ['m'])
    assert text.splitlines()[-1] == '| rgb_noise | - | 0.5 | - | - |'


def test_absent_modalities_are_left_alone(tmp_path):
    data = ToySet(absent={1: ('ir',)})
    loop = dict(**LOOP, corruptions=dict(ir=['noise']), strengths=[5])
    runner = toy_runner(tmp_path, loop, data)
    runner.test()
    for img, sample in runner.model.seen:
        assert bool(img[3].any()) == (sample.absent == ())


def test_mirrored_views_are_corrupted_alike(tmp_path):
    """The shift of a mirrored view is mirrored: the camera is off, not the view."""
    loop = dict(**LOOP, corruptions=dict(ir=['misalignment', 'noise']), strengths=[5])
    runner = toy_runner(tmp_path, loop, ToyViews(length=2), batch_size=1)
    runner.test()
    seen = runner.model.seen
    assert len(seen) == 2 * 2 * 3
    for (plain, _), (mirrored, sample) in zip(seen[::2], seen[1::2], strict=True):
        assert sample.flip
        assert torch.equal(plain, mirrored.flip(-1))


def test_values_ranges_are_those_given(tmp_path):
    span = (0.0, 1000.0)
    loop = dict(
        **LOOP,
        corruptions=dict(ir=['noise']),
        strengths=[3],
        value_ranges=dict(ir=span),
    )
    data = ToySet(length=1, dtype=np.float32)
    runner = toy_runner(tmp_path, loop, data)
    runner.test()
    noise = runner.model.seen[0][0] - data[0]['inputs']
    sigma = CORRUPTIONS['noise'].levels[2]['sigma'] * 1000
    assert noise[3].std().item() == pytest.approx(sigma, rel=0.15)  # 320 pixels
    assert not noise[:3].any()


def test_one_modality_is_enough(tmp_path):
    found = toy_runner(
        tmp_path, dict(**LOOP, strengths=[5]), ToySet(names=('rgb',))
    ).test()
    rows = dict.fromkeys(key.split('/')[0] for key in found)
    assert [*rows] == ['rgb_noise', 'rgb_blur', 'rgb_low_light', 'clean']


def shifted(meta):
    chosen = default_corruptions(meta)
    return [name for name, kinds in chosen.items() if 'misalignment' in kinds]


def test_the_reference_is_not_shifted():
    paths = dict(rgb='a.png', ir='b.png', depth='c.png')
    meta = dict(modalities=('rgb', 'ir', 'depth'), img_paths=paths, img_path='b.png')
    shifted = [
        n for n, row in default_corruptions(meta).items() if 'misalignment' in row
    ]
    assert shifted == ['rgb', 'depth']
    meta['img_path'] = 'elsewhere.png'
    shifted = [
        n for n, row in default_corruptions(meta).items() if 'misalignment' in row
    ]
    assert shifted == ['ir', 'depth']


def test_batches_are_not_changed_in_place():
    data = ToySet(length=2)
    batch = {key: [data[k][key] for k in range(2)] for key in data[0]}
    kept = [img.clone() for img in batch['inputs']]
    out = change_modality(batch, 'ir', lambda img, meta: img * 0)
    assert all(torch.equal(a, b) for a, b in zip(batch['inputs'], kept, strict=True))
    assert not out['inputs'][0][3].any()
    assert torch.equal(out['inputs'][1][:3], kept[1][:3])
    assert out['data_samples'] is batch['data_samples']


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(corruptions=dict(rgb=['fog'])), ValueError, r"corruptions \['fog'\]"),
        (dict(strengths=[0, 1]), ValueError, 'strengths must be some of'),
        (dict(strengths=[]), ValueError, 'strengths must be some of'),
        (dict(corruptions=dict(nir=['blur'])), PairError, r"modalities \['nir'\]"),
        (dict(value_ranges=dict(nir=(0, 1))), PairError, r"modalities \['nir'\]"),
    ],
)
def test_bad_options(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        toy_runner(tmp_path, dict(**LOOP, **options), ToySet()).test()
