"""One reader: in the shipped configs, and where Inferencers put their own."""

import copy
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from coco_files import image, write_flir_v13, write_image
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

import mmir  # noqa: F401 - before any host: it stands in for missing operators
from mmir.data.images import ImageReadError
from mmir.engine.dataset_check import check_dataset
from mmir.transforms import LoadPairedImages, LoadThermalImage

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
READ = dict(type='LoadImageFromFile', _scope_='mmir')
RECIPE = [
    dict(READ, bit_depth=16),
    dict(type='mmir.ThermalToUint8', mode='range', low=29000, high=31000),
]


# Names of the loader in a test pipeline.
NAMES = [READ, dict(type='mmir.LoadThermalImage')]


def loaders(node: object) -> Iterator[dict]:
    """All configs of transforms in a config that load images."""
    if isinstance(node, dict):
        if re.search(r'Load.*Image', str(node.get('type'))):
            yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from loaders(value)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_read_alike_everywhere(path: Path) -> None:
    cfg = Config.fromfile(path)
    parts = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    found = [list(loaders(part)) for part in parts]
    assert [len(part) for part in found] == [1, 1, 1]
    found.append(list(loaders(cfg.get('custom_hooks', []))))
    built = [TRANSFORMS.build(load) for part in found for load in part]
    assert {type(load) for load in built} <= {LoadThermalImage, LoadPairedImages}
    assert len({repr(load) for load in built}) == 1


def test_checks_see_what_the_shipped_test_pipeline_refuses(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    root = write_flir_v13(tmp_path / 'flir')
    cfg = Config.fromfile(ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        options = cfg.test_dataloader.dataset | dict(data_root=str(root))
        dataset = DATASETS.build(options)
    assert check_dataset(dataset, progress=False).problems == []
    first, second = (Path(dataset.get_data_info(k)['img_path']) for k in (0, 1))
    gray = cv2.imread(str(first), cv2.IMREAD_GRAYSCALE)
    _, png = cv2.imencode('.png', gray.astype(np.uint16) * 20)
    first.write_bytes(png.tobytes())
    cv2.imwrite(str(second), gray[:-8])
    found = {p.name: p.detail for p in check_dataset(dataset, progress=False).problems}
    assert found.keys() == {str(first), str(second)}
    assert 'uint16, not uint8' in found[str(first)]
    assert 'annotation says' in found[str(second)]


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp', 'tiff'])
@pytest.mark.parametrize('channels', [None, 3, 4])
def test_8_bit_files_have_the_values_of_the_stock_loader(tmp_path, suffix, channels):
    raw = image() if channels is None else image(channels=channels)
    if suffix == 'jpg' and channels == 4:
        pytest.skip('JPEG has no alpha')
    path = str(write_image(tmp_path / f'a.{suffix}', raw))
    stock = mmcv.transforms.LoadImageFromFile()(dict(img_path=path))['img']
    ours = TRANSFORMS.build(dict(READ))(dict(img_path=path))['img']
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, stock)


@pytest.mark.parametrize(
    'name',
    [
        'LoadImageFromNDArray', 'mmdet.LoadImageFromNDArray',
        'InferencerLoader', 'mmdet.InferencerLoader',
    ],
)  # fmt: skip
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmir'])
def test_names_that_the_hosts_put_in_its_place(name: str, scope: str) -> None:
    with DefaultScope.overwrite_default_scope(scope):
        load = TRANSFORMS.build(dict(READ, type=name, bit_depth=16))
    assert type(load) is LoadThermalImage
    assert load.bit_depth == 16


def test_the_hosts_keep_their_own_loaders() -> None:
    registry = pytest.importorskip('mmdet.registry').TRANSFORMS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    stock = registry.build(dict(type='mmdet.InferencerLoader'))
    assert type(stock).__module__.startswith('mmdet.')
    load = registry.build(dict(type='LoadImageFromFile'))
    assert type(load) is mmcv.transforms.LoadImageFromFile


@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_arrays_give_what_files_give(tmp_path, shape, dtype) -> None:
    raw = np.random.default_rng(0).integers(256, size=shape).astype(dtype)
    path = str(write_image(tmp_path / 'a.png', raw))
    load = LoadThermalImage(bit_depth=8 * raw.itemsize)
    of_file = load(path)
    for given in (raw, dict(img=raw), dict(img=raw, img_id=0)):
        out = load(given)
        np.testing.assert_array_equal(out['img'], of_file['img'])
        assert out['ori_shape'] == out['img_shape'] == (5, 7)
        assert out['img_path'] is None


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((5, 7), np.uint16), 'array holds uint16, not uint8: set bit_depth'),
        (np.zeros((5, 7, 2), np.uint8), r'shape \(5, 7, 2\).* 1, 3 or 4 channels'),
        (np.zeros((3, 5, 7), np.uint8), r'shape \(3, 5, 7\)'),
        (np.zeros(5, np.uint8), r'shape \(5,\)'),
    ],
)
def test_arrays_follow_the_rules_of_files(array, message) -> None:
    with pytest.raises(ImageReadError, match=message):
        LoadThermalImage()(array)


def test_a_sample_without_image_is_explained() -> None:
    with pytest.raises(KeyError, match=r'no img_path and no array.*\[.*height'):
        LoadThermalImage()(dict(height=3))


@pytest.fixture
def scope() -> Iterator[None]:
    previous = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict = previous


@pytest.fixture
def counts() -> np.ndarray:
    """Thermal counts, (64, 96) of uint16."""
    return np.random.default_rng(0).integers(29000, 31001, (64, 96)).astype(np.uint16)


def shown(counts: np.ndarray) -> np.ndarray:
    """What `RECIPE` makes of the counts."""
    return np.rint((counts - 29000.0) * (255 / 2000)).astype(np.uint8)


def detector_config(*first: dict) -> Config:
    cfg = Config.fromfile(ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct.py')
    cfg.load_from = None
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[:1] = [ConfigDict(step) for step in first] or pipeline[:1]
    return cfg


@pytest.mark.usefixtures('scope')
@pytest.mark.parametrize('entry', ['inferencer', 'function'])
@pytest.mark.parametrize('name', NAMES)
def test_mmdet_sees_the_same_in_files_and_arrays(tmp_path, counts, entry, name) -> None:
    apis = pytest.importorskip('mmdet.apis')

    def entered(*first: dict) -> tuple[Callable, list[torch.Tensor]]:
        """How to predict, and the list of what the model is given."""
        cfg = detector_config(*first)
        if entry == 'inferencer':
            run = apis.DetInferencer(cfg, device='cpu', show_progress=False)
            model = run.model
        else:
            model = apis.init_detector(cfg, device='cpu')
            run = partial(apis.inference_detector, model)
        found = []
        model.data_preprocessor.register_forward_pre_hook(
            lambda _, args: found.append(args[0]['inputs'][0])
        )
        return run, found

    deep, gray = str(tmp_path / 'deep.png'), counts.astype(np.uint8)
    write_image(deep, counts)
    write_image(tmp_path / 'gray.png', gray)
    given = (deep, counts, counts[..., None], cv2.merge([counts] * 3))
    of_deep, inputs = entered(dict(name, bit_depth=16), RECIPE[1])
    for item in given:
        of_deep(item)
    of_gray, gray_inputs = entered()
    for item in (str(tmp_path / 'gray.png'), gray, gray[..., None]):
        of_gray(item)
    for found, truth in ((inputs, shown(counts)), (gray_inputs, gray)):
        assert len(found) >= 3
        assert all(torch.equal(each, found[0]) for each in found)
        # 96x64 becomes 640x427, then it is padded
        wide = cv2.resize(truth, (640, 427))
        np.testing.assert_array_equal(found[0][0, :427, :640].numpy(), wide)
    for item, name in ((deep, r'deep\.png'), (counts, 'the array')):
        with pytest.raises(ImageReadError, match=f'{name} holds uint16, not uint8'):
            of_gray(item)


@pytest.mark.usefixtures('scope')
@pytest.mark.parametrize('name', NAMES)
def test_mmseg_sees_the_same_in_files_and_arrays(tmp_path, counts, name) -> None:
    apis = pytest.importorskip('mmseg.apis')
    cfg = Config(dict(default_scope='mmseg', model=dict(type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=None, size_divisor=1),
        backbone=dict(type='ResNet', depth=18, strides=(1, 2, 1, 1)),
        decode_head=dict(type='FCNHead', in_channels=512, in_index=3, channels=8,
            num_classes=2, num_convs=1), test_cfg=dict(mode='whole')),
    ))  # fmt: skip
    steps = [dict(name, bit_depth=16), RECIPE[1]]
    steps += [dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    cfg.test_pipeline = steps
    cfg.test_dataloader = dict(dataset=dict(pipeline=copy.deepcopy(steps)))
    cfg.visualizer = dict(type='SegLocalVisualizer', name='one_reader')
    infer = apis.MMSegInferencer(copy.deepcopy(cfg), device='cpu', classes=['a', 'b'],
        palette=[[0, 0, 0], [1, 1, 1]])  # fmt: skip
    seen = []
    infer.model.data_preprocessor.register_forward_pre_hook(
        lambda _, args: seen.append(args[0]['inputs'][0])
    )
    path = str(write_image(tmp_path / 'a.png', counts))
    for given in (path, counts, counts[..., None]):
        infer(given)
        infer.model.cfg = copy.deepcopy(cfg)
        apis.inference_model(infer.model, given)
    assert len(seen) == 6
    for inputs in seen:
        np.testing.assert_array_equal(inputs[1].numpy(), shown(counts))
    with pytest.raises(ImageReadError, match='the array holds uint8, not uint16'):
        infer(shown(counts))


@pytest.mark.usefixtures('scope')
def test_mmpretrain_takes_arrays_by_the_same_rules(tmp_path, counts) -> None:
    pretrain = pytest.importorskip('mmpretrain')
    DefaultScope.get_instance('one_reader', scope_name='mmpretrain')
    steps = [dict(RECIPE[0], type='mmir.LoadThermalImage'), RECIPE[1]]
    for step in steps:
        step.pop('_scope_', None)
    cfg = Config(dict(model=dict(type='ImageClassifier',
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0] * 3, std=[1] * 3),
        backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=512)),
        test_dataloader=dict(dataset=dict(type='CustomDataset',
            pipeline=[*steps, dict(type='PackInputs')])),
    ))  # fmt: skip
    infer = pretrain.ImageClassificationInferencer(cfg, pretrained=False, device='cpu')
    seen = []
    infer.model.data_preprocessor.register_forward_pre_hook(
        lambda _, args: seen.append(args[0]['inputs'][0])
    )
    infer([counts, counts[..., None]])
    for inputs in seen:
        np.testing.assert_array_equal(inputs[2].numpy(), shown(counts))
    path = str(write_image(tmp_path / 'a.png', counts))
    with pytest.raises(ImageReadError, match=r'mmpretrain.*read_image\(file\)'):
        infer(path)
