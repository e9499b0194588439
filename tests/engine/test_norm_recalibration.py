"""Statistics of norms for one modality, against a computation by hand."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmir.engine import NormRecalibrationHook, recalibrate_norms
from mmir.layers import ModalityNorm, SoloStatistics
from mmir.layers.presence import ModalityRoute, Presence
from mmir.utils.errors import UserError

NAMES = 'rgb', 'ir'
NORM = 'norm.copies.ir'


class Toy(BaseModel):
    """A shared convolution and a norm per modality; keeps what it has normalized."""

    def __init__(self, solo: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.route = ModalityRoute(NAMES)
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = ModalityNorm(nn.BatchNorm2d(4, momentum=0.3), self.route)
        if solo:
            self.solo_statistics = SoloStatistics()
        self.seen: list[dict[str, Tensor]] = []

    def forward(
        self, inputs: list[Tensor], data_samples: list, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor]:
        x = torch.stack([*inputs])
        metas = [sample.metainfo for sample in data_samples]
        presence = Presence.of(NAMES, len(x), metas)
        parts = dict(zip(NAMES, x.chunk(2, 1), strict=True))
        self.seen.append({n: presence.take(parts[n], n) for n in presence.active})
        maps = self.route.run(lambda y: self.norm(self.conv(y)), parts, presence)
        total = sum(y[0].square().mean() for y in maps.values())
        return dict(loss=total) if mode == 'loss' else total


def packed(index: int, absent: Sequence[str] = ()) -> dict:
    x = torch.randn(6, 5, 5, generator=torch.Generator().manual_seed(index))
    meta = dict(modalities=NAMES, channels=(3, 3), absent=tuple(absent))
    x[3:] = x[3:] * (index + 1) + index
    return dict(inputs=x, data_samples=BaseDataElement(metainfo=meta))


def batches() -> list[dict[str, list]]:
    """Two of two pairs, one with a sample that has no infrared image, one without."""
    groups = [[(0, ()), (1, ())], [(2, ()), (3, ('ir',))], [(4, ('ir',)), (5, ('ir',))]]
    groups += [[(6, ('rgb',)), (7, ())]]
    rows = [[packed(*row) for row in group] for group in groups]
    return [{k: [row[k] for row in group] for k in group[0]} for group in rows]


def by_hand(model: Toy, used: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Mean over the batches of the mean and the unbiased variance of the maps."""
    means, variances = [], []
    for rows in used:
        x = torch.stack([packed(row)['inputs'][3:] for row in rows]).double()
        kernel = model.conv.weight.detach().double().flatten(1)
        y = torch.einsum('oc,nchw->onhw', kernel, x).flatten(1)
        y = y + model.conv.bias.detach().double()[:, None]
        means.append(y.mean(1))
        variances.append(y.var(1, unbiased=True))
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)


def check_recorded(model: Toy, used: Sequence[Sequence[int]]) -> None:
    mean, var = by_hand(model, used)
    with model.eval().solo_statistics.alone(model, 'ir'):
        norm = model.get_submodule(NORM)
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-9, atol=0)
        torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-9, atol=0)


def double(data: list[dict]) -> list[dict]:
    return [dict(each, inputs=[x.double() for x in each['inputs']]) for each in data]


def test_averages_over_the_batches() -> None:
    model = Toy().double()
    state = copy.deepcopy(model.state_dict())
    model.norm.copies['rgb'].eval()
    assert recalibrate_norms(model, double(batches()), 'ir') == dict(ir=3)
    assert all(list(x) == ['ir'] for x in model.seen)
    assert [len(x['ir']) for x in model.seen] == [2, 1, 2]
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    norm = model.norm.copies['ir']
    assert (norm.momentum, norm.training) == (0.3, True)
    assert not model.norm.copies['rgb'].training
    check_recorded(model, [(0, 1), (2,), (6, 7)])


def test_number_of_batches_and_a_second_time() -> None:
    model = Toy().double()
    recalibrate_norms(model, double(batches()), 'ir')
    assert recalibrate_norms(model, double(batches()), 'ir', batches=1) == dict(ir=1)
    check_recorded(model, [(0, 1)])


def test_several_modalities_from_one_reading_of_the_loader() -> None:
    """A loader with mmengine's InfiniteSampler cannot be read twice."""
    model = Toy().double()
    once = iter(double(batches()))
    assert recalibrate_norms(model, once, NAMES) == dict(rgb=4, ir=3)
    check_recorded(model, [(0, 1), (2,), (6, 7)])
    alone = Toy().double()
    recalibrate_norms(alone, double(batches()), 'rgb')
    own = alone.solo_statistics.state_dict()
    both = model.solo_statistics.state_dict()
    assert own
    assert all(torch.equal(both[key], value) for key, value in own.items())


def test_what_cannot_be_measured_is_told() -> None:
    model = Toy()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match="no batch norms of the modality 'nir'"):
        recalibrate_norms(model, batches(), 'nir')
    with pytest.raises(
        UserError, match="no sample of the loader has the modality 'ir'"
    ):
        recalibrate_norms(model, batches()[2:3], 'ir')
    assert model.solo_statistics.modalities == ()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    with pytest.raises(UserError, match='Toy has no `solo_statistics`'):
        recalibrate_norms(Toy(solo=False), batches(), 'ir')
    for options in (dict(modalities='ir'), dict(modalities=[]), dict(batches=0)):
        with pytest.raises(ValueError, match='give modalities as a list'):
            NormRecalibrationHook(**options)


class Pairs(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return packed(index)


def runner(model: Toy, folder: Path, *hooks: dict) -> Runner:
    return Runner(
        model,
        str(folder),
        train_dataloader=dict(
            dataset=Pairs(),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(type='mmir.NormRecalibrationHook'), *hooks],
        experiment_name=f'{folder.name}{len(hooks)}',
    )


def test_the_hook_saves_a_checkpoint(tmp_path: Path) -> None:
    model = Toy()
    runner(model, tmp_path).train()
    saved = torch.load(tmp_path / 'recalibrated.pth')['state_dict']
    last = torch.load(tmp_path / 'epoch_2.pth')['state_dict']
    assert all(torch.equal(saved[key], value) for key, value in last.items())
    extra = saved.keys() - last.keys()
    prefix = 'solo_statistics.sets.ir.norm/copies/ir/'
    assert extra == {f'{prefix}mean', f'{prefix}var'}
    mean, var = by_hand(model, [(0, 1), (2, 3)])
    torch.testing.assert_close(saved[f'{prefix}mean'].double(), mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(saved[f'{prefix}var'].double(), var, rtol=1e-4, atol=0)


def test_a_moving_average_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='moving average'):
        runner(Toy(), tmp_path, dict(type='EMAHook')).train()
