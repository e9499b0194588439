"""Normalization per modality against plain arithmetic; refused layouts."""

import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.structures import BaseDataElement

from mmir.structures import ModalityNormalizer, PairError

RGB = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True)
IR = dict(mean=99.5, std=41.0, channels=1)


class Preprocessor(ModalityNormalizer, ImgDataPreprocessor):
    """Normalizer on mmengine's preprocessor, the base of all hosts' preprocessors."""


class Bare(ModalityNormalizer, BaseDataPreprocessor):
    """Neither pads nor stacks."""


def sample(**meta):
    return BaseDataElement(metainfo=meta)


def test_colour_order_mean_and_std_of_each_modality():
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (4, 5, 6), np.uint8)
    pre = Preprocessor(modalities=dict(rgb=RGB, ir=IR), pad_size_divisor=8)
    out = pre(dict(inputs=[torch.from_numpy(img)]))['inputs'][0].numpy()
    expected = np.zeros((4, 8, 8), np.float32)  # the padding is the mean image
    for k in range(3):
        plane = img[2 - k].astype(np.float32)
        expected[k, :5, :6] = (plane - np.float32(RGB['mean'][k])) / np.float32(
            RGB['std'][k]
        )
    expected[3, :5, :6] = (img[3].astype(np.float32) - np.float32(99.5)) / 41
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ('row', 'mean', 'std', 'channels'),
    [
        ({}, [0], [1], None),
        (dict(mean=5, std=2), [5], [2], None),
        (dict(bgr_to_rgb=True), [0, 0, 0], [1, 1, 1], 3),
        (dict(channels=1), [0], [1], 1),
        (dict(mean=5, std=2, channels=3), [5, 5, 5], [2, 2, 2], 3),
        (dict(mean=5, std=[1, 2, 3]), [5, 5, 5], [1, 2, 3], 3),
        (dict(mean=[1, 2], std=4), [1, 2], [4, 4], 2),
    ],
)
def test_numbers_for_all_channels_or_each(row, mean, std, channels):
    pre = Bare(modalities=dict(ir=row))
    assert pre.channels == (channels,)
    assert pre.channel_mean.flatten().tolist() == mean
    assert pre.channel_std.flatten().tolist() == std


def test_order_is_not_that_of_the_config_and_only_one_is_swapped():
    rows = dict(nir={}, ir=dict(channels=1), rgb=dict(bgr_to_rgb=True))
    img = torch.arange(7.0).view(7, 1, 1).expand(7, 2, 2)
    pre = Bare(modalities=rows)
    assert (pre.modalities, pre.channels) == (('rgb', 'ir', 'nir'), (3, 1, None))
    out = pre(dict(inputs=[img]))['inputs'][0]
    assert out[:, 0, 0].tolist() == [2, 1, 0, 3, 4, 5, 6]


@pytest.mark.parametrize('value', [0.0, -2.5])
def test_absent_modalities_hold_one_value(value):
    rows = dict(rgb=RGB, ir=IR)
    pre = Preprocessor(modalities=rows, absent_value=value)
    images = [torch.zeros(4, 3, 3, dtype=torch.uint8) for _ in range(2)]
    metas = [sample(absent=('ir',)), sample(absent=())]
    out = pre(dict(inputs=images, data_samples=metas))['inputs']
    assert (out[0, 3] == value).all()
    assert torch.equal(out[0, :3], out[1, :3])
    torch.testing.assert_close(out[1, 3], torch.full((3, 3), -99.5 / 41))
    assert images[0].max() == 0


def test_a_stacked_batch_equals_a_list():
    batch = torch.randint(0, 256, (2, 4, 6, 6), dtype=torch.uint8)
    pre = Preprocessor(modalities=dict(rgb=RGB, ir=IR))
    listed = pre(dict(inputs=list(batch)))['inputs']
    assert torch.equal(pre(dict(inputs=batch))['inputs'], listed)
    assert listed.dtype == torch.float32


def test_the_given_batch_is_not_changed():
    images = [torch.randint(0, 256, (4, 6, 6)).float()]
    data = dict(inputs=images, data_samples=[sample(absent=('rgb',))])
    before = images[0].clone()
    Preprocessor(modalities=dict(rgb={}, ir=dict(channels=1)))(data)
    assert torch.equal(images[0], before)
    assert data['inputs'] is images


def test_statistics_move_with_the_model_and_stay_out_of_checkpoints():
    pre = Preprocessor(modalities=dict(rgb=RGB, ir=IR))
    assert pre.state_dict() == {}
    pre.to('meta')
    devices = {
        b.device.type for n, b in pre.named_buffers() if n.startswith('channel_')
    }
    assert devices == {'meta'}
    assert len([n for n, _ in pre.named_buffers() if n.startswith('channel_')]) == 2


def test_samples_packed_otherwise_are_refused():
    pre = Preprocessor(modalities=dict(rgb=RGB, ir=IR))
    img = torch.zeros(4, 2, 2)
    swapped = sample(modalities=('ir', 'rgb'), channels=(1, 3), img_path='a/7.png')
    with pytest.raises(PairError, match=r"a/7\.png was packed with .* \('ir', 'rgb'\)"):
        pre(dict(inputs=[img], data_samples=[swapped]))
    other = sample(modalities=('rgb', 'ir'), channels=(1, 3))
    with pytest.raises(PairError, match=r'a sample was packed .* of \(1, 3\) channels'):
        pre(dict(inputs=[img], data_samples=[other]))
    with pytest.raises(PairError, match='an image has 3 channels, but Preprocessor'):
        pre(dict(inputs=[img[:3]]))


@pytest.mark.parametrize('channels', [(3, 1), (3, 3), (3, 2)])
def test_channels_are_those_of_the_samples_unless_said(channels):
    img = torch.randint(0, 256, (sum(channels), 4, 5), dtype=torch.uint8)
    meta = sample(modalities=('rgb', 'ir'), channels=channels, absent=())
    data = dict(inputs=[img], data_samples=[meta])
    rows = [dict(mean=99.5, std=41.0), dict(mean=99.5, std=41.0, channels=channels[1])]
    taken, said = (Preprocessor(modalities=dict(rgb=RGB, ir=row)) for row in rows)
    assert torch.equal(taken(data)['inputs'], said(data)['inputs'])
    # the next sample may have others, until a model was built for some
    assert taken.channels == (3, None)
    meta.set_metainfo(dict(absent=('ir',)))
    assert not taken(data)['inputs'][0, 3:].any()


def test_samples_that_contradict_what_is_said_are_refused():
    img = torch.zeros(4, 2, 2)
    meta = sample(modalities=('rgb', 'ir'), channels=(3, 1), img_path='a/7.png')
    pre = Preprocessor(modalities=dict(rgb={}, ir=dict(channels=3)))
    message = (
        r'a/7\.png was packed with .* of \(3, 1\) channels, but Preprocessor is set up '
        r"for \('rgb', 'ir'\) of \(any number, 3\). Set the same"
    )
    with pytest.raises(PairError, match=message):
        pre(dict(inputs=[img], data_samples=[meta]))


def test_a_model_settles_the_channels():
    rows = dict(rgb={}, ir=dict(channels=1))
    pre = Bare(modalities=rows)
    assert pre.fix_channels() == dict(rgb=3, ir=1)
    assert pre.channels == (3, 1)
    pre = Bare(modalities=rows)
    assert pre.fix_channels((1, 1)) == dict(rgb=1, ir=1)
    for channels in ((3, 1), (1, 2), (1,)):
        with pytest.raises(ValueError, match=r'channels=.* is set up for .* of \(1, 1'):
            pre.fix_channels(channels)
    other = sample(modalities=('rgb', 'ir'), channels=(3, 1))
    with pytest.raises(PairError, match=r'of \(3, 1\) channels, but'):
        pre(dict(inputs=[torch.zeros(4, 2, 2)], data_samples=[other]))


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ({}, 'at least one modality'),
        (dict(ir=dict(mean=1)), 'modality ir: give both mean and std'),
        (dict(ir=dict(channels=1, bgr_to_rgb=True)), 'bgr_to_rgb needs 3 channels'),
        (dict(ir=dict(mean=[1, 2], std=1, channels=3)), 'mean has 2 values for 3'),
        (dict(ir=dict(mean=[1, 2, 3], std=[1, 2])), 'std has 2 values for 3'),
        (dict(ir=dict(mean=1, std=0)), 'std must be positive'),
        (dict(ir=dict(to_rgb=True)), r"unknown keys \['to_rgb'\]"),
    ],
)
def test_settings_are_checked(rows, message):
    with pytest.raises(ValueError, match=message):
        Bare(modalities=rows)


@pytest.mark.parametrize('key', ['mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'])
def test_normalisation_is_given_once(key):
    with pytest.raises(ValueError, match=rf"set \['{key}'\] per modality"):
        Preprocessor(modalities=dict(ir={}), **{key: 1})
