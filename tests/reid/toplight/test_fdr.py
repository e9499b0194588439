"""`FDR`: sizes, slices, ablations and costs."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmir.registry import MODELS
from mmir.reid.toplight import FDR
from mmir.utils.errors import UserError

MAP = 1280, 9, 5
CONVS = 2 * (1280 * 960 + 2 * 960)


def fdr(**options: object) -> FDR:
    torch.manual_seed(0)
    return FDR(1280, **options).eval()


def maps(count: int = 2) -> Tensor:
    return torch.randn(count, *MAP, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ('options', 'channels', 'parameters'),
    [
        (dict(), 1920, CONVS + 3 * 1920 // 64),
        (dict(attention='no_shuffle'), 1920, CONVS + 3 * 1920 // 64),
        (dict(attention='se'), 1920, CONVS + 2 * 1920 * 120 + 120 + 1920),
        (dict(attention='cbam'), 1920, CONVS + 2 * 1920 * 120 + 98),
        (dict(attention=None), 1920, CONVS),
        (dict(stripes=(3, 3)), 1920, CONVS + 90),
        (dict(slices=['rows'], attention=None), 960, CONVS // 2),
        (dict(slices=[]), 1280, 3 * 1280 // 64),
    ],
)
def test_sizes(options: dict, channels: int, parameters: int) -> None:
    module = fdr(**options)
    assert module.out_channels == channels
    assert module(maps()).shape == (2, channels, 9, 5)
    assert count(module) == parameters


def test_slices_stay_vectors_without_upsampling() -> None:
    module = fdr(upsample=False)
    assert module(maps()).shape == (2, 1920, 1, 1)
    assert count(module) == CONVS + 2 * 3 * 960 // 32
    plain = fdr(upsample=False, attention=None)
    rows = plain.convs['rows'](maps().mean(3, keepdim=True)).mean(2, keepdim=True)
    columns = plain.convs['columns'](maps().mean(2, keepdim=True)).mean(3, keepdim=True)
    torch.testing.assert_close(plain(maps()), torch.cat([rows, columns], 1))


def test_macs_of_the_convolutions() -> None:
    """The paper's FLOPs rise by 112 million."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        fdr()(maps(1))
    assert counter.get_total_flops() == 2 * 110_592_000


def test_branches_forget_one_direction() -> None:
    module = fdr(attention=None)
    out = module(maps())
    rows, columns = out.split(960, 1)
    torch.testing.assert_close(rows, rows[..., :1].expand_as(rows))
    torch.testing.assert_close(columns, columns[..., :1, :].expand_as(columns))
    rolled, _ = module(maps().roll(2, 3)).split(960, 1)
    torch.testing.assert_close(rolled, rows)
    _, rolled = module(maps().roll(2, 2)).split(960, 1)
    torch.testing.assert_close(rolled, columns)
    assert (module(maps().roll(1, 2)).split(960, 1)[0] - rows).abs().max() > 1e-2


def test_few_stripes_are_interpolated() -> None:
    module = fdr(attention=None, stripes=(3, 1))
    seen = []
    module.convs['rows'].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    module(maps())
    thirds = maps().mean(3).unflatten(2, (3, 3)).mean(3)
    torch.testing.assert_close(seen[0][:, :, 1::3, 0], thirds)  # at their centres
    between = (2 * thirds[:, :, 0] + thirds[:, :, 1]) / 3
    torch.testing.assert_close(seen[0][:, :, 2, 0], between)


def test_the_neck_pools() -> None:
    cfg = dict(
        type='mmir.FDRNeck',
        fdr=dict(in_channels=1280),
        pool=dict(type='mmpretrain.GlobalAveragePooling'),
    )
    torch.manual_seed(0)
    neck = MODELS.build(cfg).eval()
    (out,) = neck((maps(), maps()))
    torch.testing.assert_close(out, neck.fdr(maps()).mean((2, 3)))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(slices='rows'), 'as a list'),
        (dict(slices=['diagonals']), 'columns'),
        (dict(attention='self'), 'cbam'),
        (dict(stripes=(3,)), 'two numbers'),
        (dict(stripes=(0, 2)), 'two numbers'),
        (dict(groups=7), 'groups'),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fdr(**options)
    with pytest.raises(UserError, match='3/4'):
        FDR(1281)
