"""The speed benchmark of TensorFact: its arithmetic, its variants, a toy run."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
sys.path.insert(0, str(FOLDER))

import _timing  # noqa: E402
import _variants  # noqa: E402
import tensorfact  # noqa: E402

MODES = ('auto', 'reconstruct', 'two_conv', 'branch')


class Machine:
    """A clock that only calls advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.log.append(name)
            self.now += seconds

        return run


def test_calls_take_turns_and_each_round_starts_with_another() -> None:
    machine = Machine()
    calls = {name: machine.call(name, s) for name, s in dict(a=1, b=2, c=4).items()}
    times = _timing.take_turns(calls, 4, lambda: machine.now)
    assert times == {'a': [1.0] * 4, 'b': [2.0] * 4, 'c': [4.0] * 4}
    # two calls each to warm up
    assert ''.join(machine.log) == 'aabbcc' + 'abc' + 'bca' + 'cab' + 'abc'


def test_short_calls_are_repeated_and_time_is_of_one() -> None:
    machine = Machine()
    calls = dict(short=machine.call('s', 0.125), long=machine.call('l', 1.0))
    times = _timing.take_turns(calls, 2, lambda: machine.now, min_seconds=0.5)
    assert times == dict(short=[0.125] * 2, long=[1.0] * 2)
    assert machine.log.count('s') == 2 + 2 * 4
    assert machine.log.count('l') == 2 + 2


def test_ratios_are_taken_within_a_round() -> None:
    # the machine is four times slower in the last round
    times = dict(dense=[1.0, 2.0, 4.0], ours=[2.0, 2.0, 2.0], half=[0.5, 1.0, 2.0])
    stats = _timing.summarize(times, 'dense')
    assert stats['dense']['ratio'] == [1.0] * 3
    assert stats['half']['ratio'] == [0.5] * 3
    assert stats['ours']['ratio'] == [0.75, 1.0, 1.5]
    assert stats['dense']['ms'] == [1500.0, 2000.0, 3000.0]


def test_one_round_has_no_spread() -> None:
    stats = _timing.summarize(dict(dense=[0.5], ours=[0.25]), 'dense')
    assert stats['ours'] == dict(ms=[250.0] * 3, ratio=[0.5] * 3)


def test_peak_memory_counts_what_lives_at_a_time() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.zeros(1000, 250)

    def together() -> None:
        kept = [torch.zeros(1000, 250) for _ in range(3)]
        del kept

    assert _timing.peak_memory(one_after_another, 'cpu') == 10**6
    assert _timing.peak_memory(together, 'cpu') == 3 * 10**6


def test_freeing_what_was_there_before_is_no_peak() -> None:
    kept = [torch.zeros(1000, 250)]
    assert _timing.peak_memory(kept.clear, 'cpu') == 0


def row(kind: str, ratio: float, **more: object) -> dict:
    base = dict(case='net', scope='net', phase='forward', rank=4, kind=kind)
    return {**base, 'variant': kind, 'ratio': [ratio - 0.1, ratio, ratio + 0.1], **more}


def test_targets_name_the_worst_and_pass_at_the_limit() -> None:
    rows = [
        row('auto', 1.03, case='layer', scope='layer', rank=8),
        row('auto', 0.5, rank=1),
        row('auto', 1.06, phase='train', variant='auto r=2'),
        row('auto', 1.0, phase='train', rank=1),
        row('auto', 9.0, phase='train', scope='layer'),
        row('merged', 1.02),
        row('two_conv', 7.0, rank=1),
    ]
    train, merged, auto, fast = tensorfact.targets(rows, 'cpu')
    assert (train['value'], train['passed']) == (1.06, False)
    assert train['where'] == 'net, auto r=2'
    assert (merged['value'], merged['passed']) == (1.02, True)
    assert (auto['value'], auto['passed'], auto['where']) == (1.03, True, 'layer, auto')
    assert (fast['value'], fast['passed']) == (2.0, True)
    text = tensorfact.verdicts([train, fast], rows)
    assert 'MISS' in text.splitlines()[2]
    assert 'pass' in text.splitlines()[3]


def test_rank_one_must_be_fast_on_cpu_only() -> None:
    rows = [row('auto', 0.8, rank=1)]
    (_, fast) = tensorfact.targets(rows, 'cpu')
    assert (fast['value'], fast['passed']) == (1.25, False)
    assert len(tensorfact.targets(rows, 'cuda')) == 1
    assert tensorfact.targets([], 'cpu') == []


def test_noise_is_that_of_the_model_measured_twice() -> None:
    rows = [row('dense', r, variant=_variants.CONTROL) for r in (1.02, 0.95)]
    assert tensorfact.noise([*rows, row('auto', 3.0)]) == pytest.approx(0.05)


@pytest.fixture(scope='module')
def made() -> dict[str, nn.Module]:
    """All variants of one layer, by name."""
    torch.manual_seed(0)
    case = _variants.Geometry(12, 8, 10, 9, 2).case(batch=1)
    found = _variants.variants((1, 3), 3, MODES)
    copies = [_variants.Geometry(12, 8, 10, 9, 2).case(1).model for _ in found]
    for model in copies:
        model.load_state_dict(case.model.state_dict())
    return {v.name: v.build(m) for v, m in zip(found, copies, strict=True)}


def test_variants_compute_what_their_rank_says(made: dict[str, nn.Module]) -> None:
    x = torch.randn(2, 8, 10, 9)
    with torch.no_grad():
        y = {name: model.eval()(x) for name, model in made.items()}
    assert y['dense'].equal(y['dense, again'])
    assert y['dense'].shape == (2, 12, 5, 5)
    alike = [y[f'{mode} r=3'] for mode in MODES[:-1]]
    # a delta starts at zero
    alike += [y['merged'], y['delta, auto r=3+1'], y['delta, branch r=3+1']]
    for a, b in itertools.pairwise(alike):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(y['auto r=3'], y['auto r=1'], atol=1e-2)
    assert not torch.allclose(y['auto r=3'], y['dense'], atol=1e-2)


def test_variants_train_what_they_say(made: dict[str, nn.Module]) -> None:
    sizes = {
        name: sum(p.numel() for p in model.parameters() if p.requires_grad)
        for name, model in made.items()
    }
    pairs = 12 * 8 + 9
    assert sizes['dense'] == 12 * 8 * 9
    assert sizes['two_conv r=1'] == pairs
    assert sizes['reconstruct r=3'] == 3 * pairs
    assert sizes['delta, branch r=3+1'] == sizes['delta, auto r=3+1'] == pairs
    assert type(made['merged'][0]) is nn.Conv2d


class Rival(nn.Module):
    """Stand-in for a factorized convolution of tensorly-torch."""

    def __init__(self, conv: nn.Conv2d, error: float) -> None:
        super().__init__()
        self.conv, self.error, self.bias = conv, error, conv.bias
        self.weight = argparse.Namespace(to_tensor=lambda: conv.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * (1 + self.error)


def test_a_rival_is_timed_only_if_its_output_is_right() -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    layer = Rival(conv, 0.0)
    assert _variants.check_rival(layer, conv)[0] is layer
    with pytest.raises(ValueError, match=r'differs .* by 1.0e-02'):
        _variants.check_rival(Rival(conv, 0.01), conv)


@pytest.mark.parametrize(
    'options',
    [dict(groups=2), dict(padding_mode='reflect'), dict(stride=(2, 1))],
    ids=lambda o: next(iter(o)),
)
def test_a_rival_is_refused_where_it_is_known_to_be_wrong(options: dict) -> None:
    conv = nn.Conv2d(4, 6, 3, **{'padding': 1, **options})
    with pytest.raises(ValueError, match='geometry'):
        _variants.check_rival(Rival(conv, 0.0), conv)


def test_geometries_of_a_network_are_its_3x3_convolutions() -> None:
    found = _variants.geometries(_variants.yolov7('tiny', (64, 96), 1))
    assert found[0] == _variants.Geometry(32, 3, 64, 96, 2)
    assert _variants.Geometry(512, 256, 2, 3) in found
    assert len(found) == len(set(found)) == 14
    assert found[1].name == '64x32 32x48 /2'


@pytest.fixture(scope='module')
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('benchmark')
    layers = ['--layers', '8x8@12x10', '16x8@9x7/2']
    ranks = ['--ranks', '1', '8', '--middle', '2', '--rounds', '2', '--net-rounds', '1']
    modes = ['--modes', 'auto', 'two_conv', 'branch']
    threads = str(torch.get_num_threads())
    net = ['--size', '64', '--threads', threads, '--out', str(out)]
    tensorfact.main([*layers, *ranks, *modes, *net])
    return out


def test_toy_run_has_all_rows(toy: Path) -> None:
    result = json.loads((toy / 'results.json').read_text())
    rows = {(r['case'], r['variant'], r['phase']): r for r in result['rows']}
    assert len(rows) == len(result['rows'])
    ours = ['dense', 'dense, again', 'merged', 'auto r=1', 'auto r=8', 'two_conv r=1']
    ours += ['two_conv r=8', 'delta, auto r=2+1', 'delta, branch r=2+1']
    names = ['8x8 12x10', '16x8 9x7 /2', 'YOLOv7-tiny 64x64']
    skipped = result['skipped']['8x8 12x10']
    for case, variant, phase in itertools.product(names, ours, ('forward', 'train')):
        expected = not (
            (variant == 'merged' and phase == 'train')
            or (case == names[0] and variant in skipped)
        )
        assert ((case, variant, phase) in rows) == expected
    # 8 (64 + 9) parameters are more than 64 * 9
    assert skipped.keys() >= {'auto r=8', 'two_conv r=8'}
    assert 'would grow at rank 8' in skipped['auto r=8']
    for r in result['rows']:
        assert r['memory'] > 0
        assert 0 < r['ms'][0] <= r['ms'][1] <= r['ms'][2]
        assert (r['variant'] != 'dense') or r['ratio'] == [1, 1, 1]
    assert rows[names[2], 'dense', 'forward']['params'] == 6_020_400
    assert rows[names[1], 'auto r=1', 'train']['params'] == 16 * 8 + 9
    assert len(result['targets']) == 4
    assert result['environment']['ranks'] == [1, 8]


def test_toy_run_is_shown(toy: Path) -> None:
    text = (toy / 'table.md').read_text()
    assert text.count('\n| dense |') == 3
    assert '| merged |' in text
    assert 'dense measured twice differs by up to' in text
    assert (toy / 'ratios.png').read_bytes()[1:4] == b'PNG'


@pytest.mark.parametrize('text', ['8x8', '8x8@12', 'axb@1x1', '8x8@12x12/'])
def test_wrong_layers_are_explained(text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        tensorfact.parse(['--layers', text])
    assert 'OUTxIN@HEIGHTxWIDTH' in capsys.readouterr().err


def test_a_missing_device_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        tensorfact.parse(['--device', 'cuda'])
    assert 'no CUDA device' in capsys.readouterr().err
