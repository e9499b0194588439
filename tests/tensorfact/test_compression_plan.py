"""Compression plans: costs counted independently, choices by exhaustive search."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmir.tensorfact import SPLITS, TensorFactConv
from mmir.tensorfact.allocation import Cost, Option, choose, errors_of, rank_ladder
from mmir.tensorfact.compression import CompressionPlan, compression_plan
from mmir.tensorfact.conv_cost import record_calls
from mmir.tensorfact.split import get_split


def network(seed: int = 0, width: int = 16) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, 2 * width, 3, stride=2, bias=False),
        nn.Conv2d(2 * width, 2 * width, 1),
        nn.Conv2d(2 * width, 2 * width, 3, groups=2, padding=1),
    )


def macs(model: nn.Module, x: torch.Tensor) -> int:
    """Operations of a model by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ('arch', 'layers', 'dense', 'rank_4', 'rank_8'),
    [
        ('l', 46, (37_207_344, 52.22), (23_353_800, 33.54), (34_439_616, 50.61)),
        ('tiny', 23, (6_020_400, 6.52), (3_819_148, 4.20), (5_581_640, 6.44)),
    ],
)
def test_yolov7_as_in_the_specification(arch, layers, dense, rank_4, rank_8):
    plan = compression_plan(yolov7(arch), {'rank': 4}, input_size=(640, 640))
    assert set(plan.ranks.values()) == {4}
    assert len(plan.ranks) == layers
    assert (plan.before.params, round(plan.before.macs / 1e9, 2)) == dense
    assert (plan.after.params, round(plan.after.macs / 1e9, 2)) == rank_4
    # Twice the rank costs twice as much; this table does not stop at the dense cost.
    twice = plan.before
    for each in plan.layers:
        cost = Cost(2 * each.after.params, 2 * each.after.macs)
        twice = twice.plus(cost, each.before)
    assert (twice.params, round(twice.macs / 1e9, 2)) == rank_8


def yolov7(arch: str) -> nn.Module:
    pytest.importorskip('mmdet')
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    from mmir.det.yolov7.arch import get_arch

    folder = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'
    cfg = Config.fromfile(folder / 'yolov7_l.py')
    cfg.model.backbone.arch = cfg.model.neck.arch = arch
    cfg.model.bbox_head.head_module.in_channels = get_arch(arch).out
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model)


def test_two_convolutions_count_only_where_they_are_fewer():
    """At r=8 the layers of 64 channels and less cost more than dense: they do not."""
    net = nn.Sequential(
        nn.Conv2d(64, 64, 3, bias=False), nn.Conv2d(64, 512, 3, bias=False)
    )
    plan = compression_plan(net, {'rank': 8}, input_size=(64, 12, 12))
    thin, wide = plan.layers
    assert thin.after.params == 8 * (64 * 64 + 9) < thin.before.params
    assert thin.before.macs == thin.after.macs == 64 * 64 * 9 * 10 * 10
    assert wide.before.macs == 64 * 512 * 9 * 8 * 8
    assert wide.after.macs == 8 * 8 * 8 * (64 * 512 + 64 * 9) < wide.before.macs


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('target', [{'params': 0.5}, {'macs': 0.7}, {'params': 9000}])
def test_plan_is_what_apply_does(target, split):
    net = network()
    dense, x = copy.deepcopy(net), torch.randn(1, 3, 24, 20)
    before = macs(net, x)
    plan = compression_plan(net, target, input_size=(24, 20), split=split)
    assert plan.before.macs == before
    unit, goal = next(iter(target.items()))
    limit = goal * getattr(plan.before, unit) if goal < 1 else goal
    assert getattr(plan.after, unit) <= limit
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            net.state_dict().values(), dense.state_dict().values(), strict=True
        )
    )
    report = plan.apply_(net)
    assert report.ranks == plan.ranks
    assert report.params_after == plan.after.params
    assert report.params_before == plan.before.params
    if unit == 'macs':
        assert macs(net, x) == plan.after.macs
    for each in plan.layers:
        old, new = dense.get_submodule(each.name), net.get_submodule(each.name)
        assert isinstance(new, TensorFactConv) == (each.rank is not None)
        error = (old.weight - new.weight).norm() / old.weight.norm()
        assert error.item() == pytest.approx(each.error, rel=1e-4, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    part=st.floats(0.35, 0.99),
    unit=st.sampled_from(['params', 'macs']),
)
def test_no_other_choice_is_as_cheap_and_better(seed, part, unit):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(4, 12, 3), nn.Conv2d(12, 9, 3), nn.Conv2d(9, 16, 3))
    plan = compression_plan(net, {unit: part}, input_size=(4, 12, 12))
    menus = []
    for each in plan.layers:
        errors = errors_of(net.get_submodule(each.name).weight, get_split('ts_dd'))
        one = compression_plan(net, {'rank': 1}, input_size=(4, 12, 12))
        price = {e.name: getattr(e.after, unit) for e in one.layers}[each.name]
        dense = getattr(each.before, unit)
        menu = [(dense, 0.0)]
        menu += [(r * price, errors[r] ** 2) for r in range(1, 9) if r * price < dense]
        menus.append(menu)
    cost = sum(getattr(each.after, unit) for each in plan.layers)
    best = min(
        sum(error for _, error in choice)
        for choice in itertools.product(*menus)
        if sum(c for c, _ in choice) <= cost
    )
    assert sum(each.error**2 for each in plan.layers) == pytest.approx(best, abs=1e-9)


def test_errors_are_the_tails_of_the_singular_values():
    for split in SPLITS:
        cut, kernel = get_split(split), torch.randn(6, 5, 3, 2, dtype=torch.float64)
        sigma = torch.linalg.svdvals(cut.unfold(kernel))
        tails = [sigma[r:].norm() / sigma.norm() for r in range(len(sigma) + 1)]
        # The last one is rounding: the square root of 1e-16.
        assert errors_of(kernel, cut) == pytest.approx(
            [t.item() for t in tails], abs=1e-7
        )
    zeros = errors_of(torch.zeros(4, 4, 3, 3), get_split('ts_dd'))
    assert zeros == [0.0] * 10


def test_rank_ladder():
    assert rank_ladder(9) == list(range(1, 10))
    ladder = rank_ladder(500)
    assert ladder[:16] == list(range(1, 17))
    assert ladder[-1] <= 500
    assert len(ladder) < 60
    steps = [b / a for a, b in itertools.pairwise(ladder[15:])]
    assert max(steps) < 1.14


def test_a_layer_used_twice_counts_twice():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    twice = nn.Sequential(conv, nn.MaxPool2d(2), conv)
    plan = compression_plan(twice, {'rank': 2}, input_size=(8, 8, 8))
    assert [each.name for each in plan.layers] == ['0']
    assert plan.before.macs == 8 * 8 * 9 * (64 + 16)
    assert plan.after.macs == 2 * (8 * 8 + 8 * 9) * (64 + 16)
    plan.apply_(twice)
    assert twice[0] is twice[2]


def test_recording_leaves_the_model_as_it_was():
    net = network()
    net[1].eval()
    calls = record_calls(net, torch.zeros(2, 3, 9, 9))
    assert calls[net[0]] == [(2, 3, 9, 9)]
    assert calls[net[4]] == [(2, 32, 4, 4)]
    assert [m.training for m in net] == [True, False, True, True, True]
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_forward_of_the_user_is_called():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3)

        def forward(self, *, image):
            return self.conv(image)

    plan = compression_plan(
        Named(), {'rank': 1}, input_size=(4, 5, 6), forward=lambda m, x: m(image=x)
    )
    assert plan.before.macs == 4 * 8 * 9 * 3 * 4


def test_plan_survives_json():
    net = network()
    plan = compression_plan(net, {'macs': 0.7}, input_size=(24, 20))
    again = CompressionPlan.from_json(plan.to_json())
    assert again == plan
    assert again.apply_(net).ranks == plan.ranks
    for text in ('{}', '[]', 'no json', '{"target": {}}'):
        with pytest.raises(ValueError, match='this is not a compression plan'):
            CompressionPlan.from_json(text)


def test_table_has_a_row_a_layer_and_only_known_columns():
    plan = compression_plan(network(), {'rank': 2})
    rows = str(plan).splitlines()
    assert len({len(row) for row in rows}) == 1
    assert rows[0].split() == ['layer', 'kernel', 'rank', 'error', 'params']
    assert rows[2].split()[:3] == ['2', '32x16x3x3', '2']
    assert rows[2].endswith('4,608 -> 1,042')
    assert rows[-1].startswith('whole model')
    counted = compression_plan(network(), {'rank': 2}, input_size=(24, 20))
    assert str(counted).splitlines()[0].split()[-2:] == ['params', 'MMACs']


def test_a_target_that_is_met_leaves_all_dense():
    net = network()
    plan = compression_plan(net, {'params': 10**6})
    assert plan.ranks == {}
    assert plan.after == plan.before
    assert plan.apply_(net).ranks == {}
    assert type(net[0]) is nn.Conv2d


def test_unreachable_target_tells_the_least():
    net = network()
    least = compression_plan(net, {'rank': 1}).after.params
    with pytest.raises(ValueError, match=f'params: 100 cannot .* least is {least:,}'):
        compression_plan(net, {'params': 100})
    assert compression_plan(net, {'params': least}).after.params == least


@pytest.mark.parametrize(
    ('target', 'options', 'message'),
    [
        ({'flops': 1}, {}, 'unknown target'),
        ({'latency': 0.5}, {}, 'unknown target'),
        ({'params': 0}, {}, 'unknown target'),
        ({'params': True}, {}, 'unknown target'),
        ({'params': 0.5, 'macs': 0.5}, {}, 'unknown target'),
        (0.5, {}, 'unknown target'),
        ({'macs': 0.5}, {}, 'give input_size'),
        ({'macs': 0.5}, {'input_size': (1, 3, 8, 8)}, r'not \(H, W\) or \(C, H, W\)'),
        ({'params': 0.5}, {'include': ['backbone']}, 'nothing to factorize'),
        ({'params': 0.5}, {'split': 'x'}, 'available: ts_dd'),
    ],
)
def test_wrong_arguments(target, options, message):
    with pytest.raises(ValueError, match=message):
        compression_plan(network(), target, **options)


def test_factors_and_nan_are_refused():
    net = network()
    plan = compression_plan(net, {'rank': 2})
    plan.apply_(net)
    with pytest.raises(ValueError, match='merge_ it before'):
        compression_plan(net, {'rank': 2})
    broken = network()
    nn.init.constant_(broken[2].weight, float('nan'))
    with pytest.raises(ValueError, match='2: NaN'):
        compression_plan(broken, {'params': 0.5})


def test_plan_of_another_model_changes_nothing():
    plan = compression_plan(network(), {'rank': 2})
    other = network(width=8)
    with pytest.raises(ValueError, match='0: planned for a convolution of 16x3x3x3'):
        plan.apply_(other)
    short = network()[:2]
    with pytest.raises(ValueError, match=r'2: planned .* the model has nothing'):
        plan.apply_(short)
    assert type(other[2]) is type(short[0]) is nn.Conv2d
    broken = network()
    nn.init.constant_(broken[4].weight, float('inf'))
    with pytest.raises(ValueError, match='4: NaN or infinite'):
        plan.apply_(broken)
    assert type(broken[0]) is nn.Conv2d


def test_choice_skips_what_lies_above_the_hull():
    """Rank 2 is dearer per saved unit than going on to rank 1: it is never taken."""
    menu = [
        Option(None, Cost(100), 0.0),
        Option(2, Cost(90), 0.5),
        Option(1, Cost(20), 0.6),
    ]
    (pick,) = choose([menu], 100, 'params', 95)
    assert pick.rank == 1
    steep = [menu[0], Option(2, Cost(60), 0.1), menu[2]]
    (pick,) = choose([steep], 100, 'params', 95)
    assert pick.rank == 2
