"""YOLOv5 as a network, against the list of its layers."""

import json
import os
from pathlib import Path

import cv2
import pytest
import torch
import yolov5_reference as ref5
from torch import Tensor, nn
from yolov5_model import build, trained

from mmir.det import YOLOv5, YOLOv5Backbone, YOLOv5Neck
from mmir.det.yolov5.arch import ANCHORS, ARCHS
from mmir.det.yolov5.convert import convert, export_names

ARCH_NAMES = tuple(ref5.PARAMETERS)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def assert_near(maps: list[Tensor], others: list[Tensor], tolerance: float) -> None:
    for a, b in zip(maps, others, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize('arch', ARCH_NAMES)
def test_parameter_counts_are_the_published_ones(arch):
    with torch.device('meta'):
        model = build(arch, classes=80)
    assert count(model) == ref5.PARAMETERS[arch]
    parts = model.backbone, model.neck, model.bbox_head.head_module
    assert sum(map(count, parts)) == count(model)


def test_anchors_are_the_published_ones():
    assert ANCHORS == ref5.ANCHORS
    model = build()
    assert model.bbox_head.anchors.tolist() == [[list(a) for a in b] for b in ANCHORS]


@pytest.mark.parametrize('arch', ['n', 'm', pytest.param('x', marks=pytest.mark.slow)])
@torch.no_grad()
def test_network_equals_the_list_of_layers(arch):
    """With random batch norms, under the names of the official files."""
    model = trained(arch).double()
    weights = export_names(model.state_dict(), arch)
    x = images(1, 3, 64, 96)
    assert_near(model(x)[0], ref5.forward(ref5.layers(arch), weights, x), 1e-10)


@torch.no_grad()
def test_boxes_equal_those_of_plain_loops():
    model = trained(classes=2).double()
    maps = [m * 3 for m in model(images(2, 3, 64, 96))[0]]
    for ours, theirs in zip(
        model.bbox_head.decode_maps(maps), ref5.decode(maps, 2), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('arch', ARCH_NAMES)
def test_shapes_of_a_non_square_image(arch):
    with torch.device('meta'):
        model = build(arch, classes=3)
        feats = model.backbone(torch.empty(2, 3, 128, 160))
        pyramid = model.neck(feats)
        maps = model.bbox_head(pyramid)[0]
    sizes = [(128 // s, 160 // s) for s in (8, 16, 32)]
    for tensors, channels in (
        (feats, ARCHS[arch].out),
        (pyramid, ARCHS[arch].out),
        (maps, (24, 24, 24)),
    ):
        expected = [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
        assert [tuple(t.shape) for t in tensors] == expected


def test_layers_have_the_published_normalization_and_activation():
    model = build()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == len(norms) + 3 == 60
    acts = [m for m in model.modules() if isinstance(m, nn.SiLU)]
    assert len(acts) == len(norms)


def test_out_indices_and_input_channels():
    backbone = YOLOv5Backbone('n', in_channels=1, out_indices=(1, 4))
    shapes = [tuple(f.shape) for f in backbone(torch.rand(2, 1, 64, 96))]
    assert shapes == [(2, 32, 16, 24), (2, 256, 2, 3)]


def test_the_neck_takes_other_channels():
    neck = YOLOv5Neck('n', in_channels=(8, 16, 32))
    feats = [torch.rand(1, c, 32 // i, 32 // i) for c, i in ((8, 1), (16, 2), (32, 4))]
    assert [f.shape for f in neck(feats)] == [f.shape for f in feats]
    assert neck.out_channels == (8, 16, 32)


@pytest.mark.parametrize('stages', [0, 2, 4])
def test_frozen_stages_keep_parameters_and_statistics(stages):
    m = YOLOv5Backbone('n', frozen_stages=stages)
    m.train()
    before = {k: v.clone() for k, v in m.state_dict().items()}
    out = m(torch.rand(2, 3, 64, 64))[-1].square().sum()
    if out.requires_grad:
        out.backward()
    torch.optim.SGD(m.parameters(), lr=1.0).step()
    frozen = ('stem.', *(f'stage{i}.' for i in range(1, stages + 1)))
    for name, value in m.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(frozen), name


def test_unknown_sizes_and_stages_are_refused():
    for part in (YOLOv5Backbone, YOLOv5Neck):
        with pytest.raises(ValueError, match=r"'n6'.*'l', 'm', 'n', 's', 'x'"):
            part('n6')
    with pytest.raises(ValueError, match='frozen_stages=5'):
        YOLOv5Backbone('n', frozen_stages=5)


@pytest.fixture(scope='module')
def released() -> tuple[dict, dict[str, Tensor]]:
    """Description and weights of a released YOLOv5n with folded batch norms."""
    folder = os.environ.get('MMIR_WEIGHTS')
    if not folder:
        pytest.skip('set MMIR_WEIGHTS to the folder of released weights')
    from safetensors.torch import load_file

    spec = json.loads((Path(folder) / 'yolov5n.json').read_text())
    weights = load_file(Path(folder) / spec['weights'])
    return spec, {k: v.double() for k, v in weights.items()}


def detector(weights: dict[str, Tensor]) -> YOLOv5:
    model = build('n', classes=80).double().eval()
    model.load_state_dict(convert(weights).state_dict)
    return model


@torch.no_grad()
def assert_released(spec: dict, weights: dict, x: Tensor) -> None:
    model = detector(weights)
    maps = ref5.forward(spec['layers'], weights, x)
    found = model(x)[0]
    assert_near(found, maps, 1e-5)
    for ours, theirs in zip(
        model.bbox_head.decode_maps(found), ref5.decode(maps, 80), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_our_list_of_layers_is_the_described_one(released):
    theirs = released[0]['layers']
    assert len(theirs) == 25
    for row, described in zip(ref5.layers('n'), theirs, strict=True):
        if row['type'] == 'Detect':  # channels depend on the classes
            described = described | row
        assert row.items() <= described.items(), row


def test_released_weights_equal_the_described_network(released):
    spec, weights = released
    assert convert(weights).state_dict.keys() == build('n', 80).state_dict().keys()
    assert_released(spec, weights, images(2, 3, 64, 96))


def test_so_they_do_on_a_photo(released, real_data):
    photo = sorted((real_data / 'street_pairs/val/RGB').glob('*.jpg'))[0]
    image = cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB)
    x = torch.from_numpy(image).permute(2, 0, 1)[None, :, :256, :320].double() / 255
    assert_released(*released, x)
