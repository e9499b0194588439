"""The example project: an external method passes the contract and trains."""

import ast
import copy
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmir.adapters import adapt_, load_adapter, merge_, merge_state_dict
from mmir.testing import shrink
from mmir.testing.contract import CHECKS, Case
from mmir.testing.rescale import set_schedule
from mmir.testing.scenes import write_flir
from projects.example_project.scale_and_shift import (
    ScaleAndShift,
    ScaleShiftConv2d,
    ScaleShiftLinear,
)

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / 'projects/example_project'


class Toy(nn.Module):
    """A small network with hard cases for surgery; its head stays unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, padding_mode='circular', bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, groups=8)
        self.twice = nn.Conv2d(8, 8, 1)
        self.again = self.twice  # one layer with two names
        self.neck = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6))
        self.head = nn.Linear(6, 4)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)
        nn.init.normal_(self.norm.running_mean, std=0.1)

    def features(self, x: Tensor) -> Tensor:
        return self.depthwise(self.norm(self.stem(x)).relu())

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.twice(self.features(x)).relu())
        return self.head(self.neck(x.mean((2, 3))))


def toy() -> nn.Module:
    torch.manual_seed(0)
    return Toy()


def vit() -> nn.Module:
    """A vision transformer of mmpretrain: two blocks of 32 channels."""
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    backbone = dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8)
    head = dict(type='LinearClsHead', num_classes=4, in_channels=32)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def loss(model: nn.Module) -> Tensor:
    return (model(images(4)) - 1).square().mean()


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    return [model(images(2))]


def part(name: str, model: nn.Module) -> tuple[nn.Module, Tensor]:
    """The backbone; the toy itself has none."""
    return getattr(model, name) if name else model, images(2)


def row(network: Callable[[], nn.Module], name: str) -> Case:
    """Networks x method; some layers here have no bias, and merging makes one."""
    return Case(
        network=network,
        method=ScaleAndShift,
        loss=loss,
        outputs=outputs,
        part=partial(part, name),
        new_keys=r'^stem\.bias$',
    )


ROWS = {'toy': row(toy, ''), 'vit': row(vit, 'backbone')}


@pytest.mark.parametrize('check', CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize('network', ROWS)
def test_contract(network: str, check: Callable[[Case], None]) -> None:
    if network == 'vit':
        pytest.importorskip('mmpretrain')
    check(ROWS[network])  # raises an AssertionError that says what failed


def test_it_computes_gamma_y_plus_beta() -> None:
    x, plain = images(2), nn.Conv2d(3, 5, 3, bias=False)
    layer = ScaleShiftConv2d.from_base(plain)
    for name in ('ir', 'night'):
        layer.add_adapter(name)
        nn.init.normal_(layer.adapters[name].gamma)
        nn.init.normal_(layer.adapters[name].beta)
    y = plain(x)
    for adapter in layer.adapters.values():
        y = y * adapter.gamma[:, None, None] + adapter.beta[:, None, None]
    assert layer(x).equal(y)
    torch.testing.assert_close(layer.merge()(x), y)
    layer.enable_adapter('ir', False)
    layer.enable_adapter('night', False)
    assert layer(x).equal(plain(x))
    assert layer.merge().bias is None


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_merging_keeps_the_dtype(dtype: torch.dtype) -> None:
    model = toy().to(dtype)
    adapt_(model, ScaleAndShift())
    nn.init.normal_(model.stem.adapters['ir'].beta)
    merged = merge_state_dict(model.state_dict())
    expected = merge_(model).state_dict()
    assert merged.keys() == expected.keys()
    assert all(merged[k].equal(v) for k, v in expected.items())
    assert {v.dtype for v in expected.values()} == {dtype, torch.int64}


def test_layers_of_the_hosts_are_found() -> None:
    pytest.importorskip('mmpretrain')
    model = vit()
    report = adapt_(model, ScaleAndShift())
    # two of the attention and two of the feed-forward network in each block
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(ScaleShiftLinear) == 2 * 4
    assert kinds.count(ScaleShiftConv2d) == 1
    assert report.notes == {'scaled and shifted': '9 layers'}
    assert report.trainable['adapters'] == 2 * (32 + 2 * (96 + 32 + 64 + 32))


def test_only_the_public_contract_is_used() -> None:
    tree = ast.parse((PROJECT / 'scale_and_shift.py').read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {m for m in modules if m.startswith('mmir')} == {'mmir.adapters'}


def small(data: Path, load_from: Path) -> Config:
    """The config at toy scale: 64 px, two iterations."""
    cfg = shrink(Config.fromfile(PROJECT / 'yolo-tiny_flir_1pct_ssf.py'), (64, 64))
    train = cfg.train_dataloader.dataset.dataset
    train.subset = None
    for dataset, split in (
        (train, 'train'),
        (cfg.val_dataloader.dataset, 'val'),
        (cfg.test_dataloader.dataset, 'val'),
    ):
        dataset.update(
            data_root=str(data),
            ann_file=f'{split}/thermal_annotations.json',
            data_prefix=dict(img=f'{split}/'),
        )
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].update(num_workers=0, persistent_workers=False)
    set_schedule(cfg, epochs=1, batch_size=2)
    cfg.load_from = str(load_from)
    cfg.randomness = dict(seed=0)
    return cfg


def test_trains_and_writes_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('mmdet')
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')  # the tool sets it
    spec = importlib.util.spec_from_file_location('train', ROOT / 'tools/train.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    data = write_flir(tmp_path / 'data', 4, 2, size=(160, 128), progress=False)
    cfg = small(data, tmp_path / 'rgb.pth')
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        base = MODELS.build({**copy.deepcopy(cfg.model), 'adapt': None})
        trained = MODELS.build(copy.deepcopy(cfg.model))
    torch.save(dict(meta={}, state_dict=base.state_dict()), cfg.load_from)
    cfg.dump(tmp_path / 'ssf.py')
    tool.main([str(tmp_path / 'ssf.py'), '--work-dir', str(tmp_path / 'run')])

    content = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
    assert content['message_hub']['log_scalars']['train/loss'].data[0].size == 2
    trained.load_state_dict(content['state_dict'])
    x = torch.rand(1, 3, 64, 64)
    before = base.eval()(x)
    load_adapter(base, tmp_path / 'run/adapter.pth')
    after, expected = base(x), trained.eval()(x)
    for got, wanted, was in zip(*map(flat, (after, expected, before)), strict=True):
        assert got.equal(wanted)
        assert not got.equal(was)


def flat(tensors: object) -> list[Tensor]:
    """Tensors of nested lists."""
    if isinstance(tensors, Tensor):
        return [tensors]
    return [tensor for part in tensors for tensor in flat(part)]
