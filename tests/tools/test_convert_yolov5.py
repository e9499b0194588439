"""tools/model_converters/yolov5.py, run as users run it."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from official_files import save, tree
from torch import Tensor
from yolov5_model import build, trained

from mmir.cli import cli
from mmir.det.yolov5.convert import export_names

TOOL = Path(__file__).parents[2] / 'tools/model_converters/yolov5.py'


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(TOOL.parent)  # as python does for a script
    spec = spec_from_file_location('tool_yolov5', TOOL)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)

    def _run(*arguments: str) -> int:
        monkeypatch.setattr(sys, 'argv', ['yolov5.py', *map(str, arguments)])
        return cli.run(tool.main)

    return _run


@pytest.fixture(scope='module')
def own() -> dict[str, Tensor]:
    return trained().state_dict()


@pytest.fixture
def folded(own, tmp_path) -> Path:
    """A file whose names are official and whose norms are folded, without anchors."""
    state = {}
    for key, value in export_names(own, 'n').items():
        unit, _, tensor = key.rpartition('.bn.')
        if tensor == 'bias':
            state[f'{unit}.conv.bias'] = value
        elif not unit and 'anchors' not in key:
            state[key] = value.half()
    torch.save(state, tmp_path / 'folded.pt')
    return tmp_path / 'folded.pt'


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / 'photos' / 'night'
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i, size in enumerate([(60, 80), (48, 64), (100, 50)]):
        image = generator.integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / f'{i}.png'), cv2.GaussianBlur(image, (5, 5), 0))
    return folder.parent


def test_official_file(run, own, tmp_path, capsys):
    source = save(dict(ema=tree(export_names(own, 'n'))), tmp_path / 'n.pt')
    assert run(source, tmp_path / 'new/n.pth') == 0
    out = capsys.readouterr().out
    assert "YOLOv5 'n' of 3 classes from the official names, 349 tensors" in out
    assert 'WARNING' not in out
    assert 'note' not in out
    found = torch.load(tmp_path / 'new/n.pth', weights_only=True)
    assert found['meta'] == dict(
        arch='n',
        num_classes=3,
        anchors=own['bbox_head.anchors'].tolist(),
        source='official',
        norms='own',
    )
    assert all(torch.equal(v, own[k]) for k, v in found['state_dict'].items())


def test_folded_file_says_how_to_train_it(run, folded, tmp_path, capsys):
    target = tmp_path / 'n.pth'
    assert run(folded, target) == 0
    out = capsys.readouterr().out
    assert 'WARNING: The batch norms of this checkpoint are the identity' in out
    assert "norm='frozen'" in out
    assert 'the source does not store anchors' in out
    meta = torch.load(target, weights_only=True)['meta']
    assert meta['norms'] == 'identity'
    assert "norm='frozen'" in meta['note']


@torch.no_grad()
def test_images_give_it_norms_and_keep_its_predictions(
    run, folded, photos, tmp_path, capsys
):
    plain, target = tmp_path / 'plain.pth', tmp_path / 'n.pth'
    assert run(folded, plain) == 0
    extra = photos / 'night/0.png'
    assert run(folded, target, '--images', photos, extra, '--size', 64) == 0
    out = capsys.readouterr().out
    assert 'batch norms measured on 4 images' in out
    found = torch.load(target, weights_only=True)
    assert found['meta']['norms'] == 'measured'
    assert 'note' not in found['meta']
    model, before = build().double().eval(), build().double().eval()
    model.load_state_dict(found['state_dict'])
    before.load_state_dict(torch.load(plain, weights_only=True)['state_dict'])
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    for a, b in zip(model(x)[0], before(x)[0], strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
    # the first norm sees the photos in RGB from 0 to 1, padded with gray
    mean, count = 0.0, 0
    for file in (*sorted((photos / 'night').iterdir()), extra):
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        scale = 64 / max(image.shape[:2])
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        image = cv2.resize(image, size)
        # to a multiple of the stride, and half a stride more
        height, width = (int(np.ceil(n / 32 + 0.5) * 32) for n in image.shape[:2])
        padded = np.full((height, width, 3), 114, np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image
        stem = before.backbone.stem.conv(
            torch.from_numpy(padded).permute(2, 0, 1)[None].double() / 255
        )
        mean = mean + stem.sum((0, 2, 3))
        count += stem[:, 0].numel()
    found = model.backbone.stem.bn.running_mean
    torch.testing.assert_close(found, mean / count, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', 'nowhere'], '--images: no file or folder nowhere'),
        (['--images', 'photos', '--size', '8'], '--size 8: must be at least 32'),
        (['--images', 'empty'], 'no images'),
        (['--images', 'text.png'], 'text.png'),
        (['--arch', 's'], 'misshapen'),
    ],
)
def test_errors_name_what_is_wrong(
    run, folded, photos, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    Path('empty').mkdir()
    Path('text.png').write_text('no image')
    assert run('folded.pt', 'n.pth', *arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path('n.pth').exists()


def test_a_missing_source_is_named(run, tmp_path, capsys):
    assert run(tmp_path / 'a.pt', tmp_path / 'n.pth') == 2
    assert f'source: no file {tmp_path / "a.pt"}' in capsys.readouterr().err
