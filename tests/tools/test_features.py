"""The analysis of features: files, numbers, comparison of networks."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from paired_configs import tool

from mmir.adapters import save_adapter
from mmir.evaluation.feature_spectrum import components_for, pca_spectrum
from mmir.testing.scenes import write_flir
from mmir.utils.errors import UserError

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

SIZE = (96, 64)
CONFIG = """
custom_imports = dict(imports=['mmir', 'mmpretrain.models'])
default_scope = 'mmdet'
val_dataloader = dict(dataset=dict(
    type='mmir.FLIRDataset', modality='both', data_root='{root}', split='val',
    test_mode=True, pipeline=[
        dict(type='mmir.LoadPairedImages', modalities=dict(rgb={{}}, ir={{}}),
             missing='absent'),
        dict(type='mmir.PackPairedInputs')]))
norm = dict(mean=0.0, std=255.0, channels=3)
model = dict(
    {wrap}, target='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmir.PairedDetDataPreprocessor', modalities=dict(rgb=norm, ir=norm)),
    backbone=dict(
        type='mmpretrain.VisionTransformer', img_size=64, patch_size=16,
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)))
"""
TUNED = "type='mmir.Adapted', adapt=dict(type='IVTuning', rank=8, trainable=[])"
EARLY = "type='mmir.EarlyFusion', fusion=dict(channels=(3, 3))"


@pytest.fixture(scope='module')
def features():
    with tool('features') as module:
        yield module


@pytest.fixture(scope='module')
def configs(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp('pairs')
    root = write_flir(
        folder / 'flir', train=1, val=4, size=SIZE, sixteen_bit=False, progress=False
    )
    written = []
    for name, wrap in (('tuned', TUNED), ('early', EARLY)):
        path = folder / f'{name}.py'
        path.write_text(CONFIG.format(root=root.as_posix(), wrap=wrap))
        written.append(str(path))
    return written[0], written[1]


def test_two_networks(features, configs, tmp_path):
    out = tmp_path / 'out'
    command = [*configs, '--labels', 'one', 'two', '--maps', '2', '--out', str(out)]
    found = features.main([*command, '--device', 'cpu'])
    assert json.loads((out / 'features.json').read_text()) == json.loads(
        json.dumps(found)
    )
    one, two = found['networks']
    assert (one['label'], two['label']) == ('one', 'two')
    assert one['images'] == two['images']
    assert len(one['images']) == 4
    assert [block['tokens'] for block in one['blocks']] == [4 * 6 * 4] * 2
    assert list(one['embedding_power']) == ['rgb', 'ir', 'prompt']
    assert list(two['embedding_power']) == ['rgb', 'ir']
    assert one['image_power'] == two['image_power']
    frequency, _ = two['embedding_power']['ir']
    assert 0.5**0.5 / 16 >= max(frequency) > 0.4 / 16  # per pixel of the image
    for name, width in (('spectrum', 1900), ('maps', 1500), ('frequency', 1200)):
        assert cv2.imread(str(out / f'{name}.png')).shape[1] > width
    with pytest.raises(UserError, match=r'already holds spectrum\.png.*--force'):
        features.main(command)


def test_the_spectrum_of_a_checkpoint(features, configs, tmp_path):
    config = features.cli.load_config(configs[1])
    torch.manual_seed(5)
    model = MODELS.build(config.model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    model.eval()
    command = [configs[1], str(tmp_path / 'weights.pth'), '--device', 'cpu']
    found = features.main([*command, '--out', str(tmp_path / 'out')])
    network = found['networks'][0]
    tokens = []
    dataset = features.build_dataset(config, 'val')
    model.backbone.final_norm, model.backbone.out_type = False, 'featmap'
    for index in range(4):
        images = dataset[index]['inputs'][None].float()
        with torch.no_grad():
            maps = model.backbone(images / 255)[-1]
        tokens.append(maps[0].flatten(1).T)
    expected = pca_spectrum(torch.cat(tokens))
    last = network['blocks'][-1]
    assert np.allclose(last['spectrum'], expected.numpy(), atol=1e-6)
    assert last['components_90'] == components_for(expected)
    assert network['label'] == f'early {tmp_path.name}/weights'


def test_an_adapter_file_and_a_checkpoint_are_the_same(features, configs, tmp_path):
    config = features.cli.load_config(configs[0])
    torch.manual_seed(6)
    model = MODELS.build(config.model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'all.pth')
    backbone = {
        k.removeprefix('backbone.'): v
        for k, v in model.state_dict().items()
        if '.adapters.' not in k
    }
    torch.save({'state_dict': backbone}, tmp_path / 'backbone.pth')
    save_adapter(model, tmp_path / 'adapter.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    text = (
        Path(configs[0]).read_text() + f"model['backbone']['init_cfg'] = {pretrained}"
    )
    (tmp_path / 'iv.py').write_text(text)
    files = [str(tmp_path / name) for name in ('all.pth', 'adapter.pth')]
    command = [str(tmp_path / 'iv.py'), *files, '--out', str(tmp_path / 'out')]
    found = features.main([*command, '--device', 'cpu'])
    one, other = found['networks']
    assert one['blocks'] == other['blocks']
    assert one['embedding_power'] == other['embedding_power']


def test_prompts_that_are_zero_leave_the_backbone(features, configs, tmp_path):
    text = Path(configs[0]).read_text()
    zero = text.replace('rank=8,', 'rank=8, zero_init=True,')
    plain = text.replace(TUNED, "type='mmir.SingleModality', modality='rgb'")
    for name, content in (('zero', zero), ('plain', plain)):
        (tmp_path / f'{name}.py').write_text(content)
    paths = [str(tmp_path / name) for name in ('zero.py', 'plain.py', 'rgb.pth')]
    model = MODELS.build(features.cli.load_config(paths[1]).model)
    torch.save({'state_dict': model.state_dict()}, paths[2])
    command = [paths[0], paths[2], paths[1], paths[2]]
    found = features.main([*command, '--device', 'cpu', '--out', str(tmp_path / 'out')])
    one, other = found['networks']
    assert one['embedding_power']['prompt'] == ([], [])
    for block, expected in zip(one['blocks'], other['blocks'], strict=True):
        assert block['spectrum'] == pytest.approx(expected['spectrum'], abs=1e-9)


def test_wrong_arguments(features, configs, tmp_path):
    def run(*arguments: str) -> None:
        features.main([*arguments, '--out', str(tmp_path), '--device', 'cpu'])

    with pytest.raises(UserError, match='begin with a config'):
        run('weights.pth', configs[0])
    with pytest.raises(UserError, match=r'no checkpoint .*nothing\.pth'):
        run(configs[0], 'nothing.pth')
    with pytest.raises(UserError, match='3 --labels for 2 networks'):
        run(*configs, '--labels', 'a', 'b', 'c')
    with pytest.raises(UserError, match='same name'):
        run(configs[0], configs[0])
    with pytest.raises(UserError, match='at least 1'):
        run(configs[0], '--number', '0')
    text = (
        Path(configs[0]).read_text().replace(TUNED, "type='mmir.Adapted', adapt=None")
    )
    (tmp_path / 'one.py').write_text(text)
    with pytest.raises(UserError, match=r'not read 6 channels: .*SingleModality'):
        run(str(tmp_path / 'one.py'))
    wrong = tmp_path / 'wrong.pth'
    torch.save({'state_dict': {'backbone.cls_token': torch.zeros(3)}}, wrong)
    with pytest.raises(UserError, match='does not fit the model'):
        run(configs[0], str(wrong))
    assert not list(Path(tmp_path).glob('*.png'))
