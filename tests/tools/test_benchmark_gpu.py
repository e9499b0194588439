"""GPU speed table, tested on a CPU at toy sizes."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/benchmark'))

import _detectors  # noqa: E402
import gpu  # noqa: E402

METHODS = ['Full', 'ConvLoRA']
QUICK = ['--device', 'cpu', '--quick', '--methods', *METHODS]


@pytest.fixture(scope='module')
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp('gpu') / 'gpu.json'
    gpu.main([*QUICK, '--json', str(path)])
    return json.loads(path.read_text())


def test_every_method_trains_at_every_precision_of_the_device(result):
    rows = result['training']['YOLOv7-tiny']
    found = [(row['method'], row['precision']) for row in rows]
    assert found == [(m, p) for m in METHODS for p in ('fp32', 'bf16')]
    assert all(row['ms'] > 0 and row['memory'] > 0 for row in rows)
    assert all(
        row['images_per_second'] == pytest.approx(2000 / row['ms']) for row in rows
    )
    full, lora = (rows[k]['trainable'] for k in (0, 2))
    assert lora < full / 5


def test_inference_and_operators_are_measured(result):
    rows = result['inference']['YOLOv7-tiny']
    forms = {(row['method'], row['form']) for row in rows}
    assert forms == {('ConvLoRA', 'adapters'), ('ConvLoRA', 'merged')}
    names = [row['operator'].split(',')[0] for row in result['operators']]
    assert len(names) == len(set(names)) == 8
    for row in result['operators']:
        assert row['forward']['ours'] > 0
        assert ('backward' in row) != ('nms' in row['operator'])


def test_the_page_holds_every_figure(result):
    text = gpu.page({**result, 'left_out': ['YOLOv7-l, Full, fp32: out of time']})
    environment = result['environment']
    assert f'torch {environment["torch"]}' in text
    assert environment['device'] in text
    assert text.count('| ConvLoRA | ') == 4
    assert text.count('\n| Full | ') == 2
    assert '\n- YOLOv7-l, Full, fp32: out of time\n' in text
    assert all(row['operator'] in text for row in result['operators'])


def test_operators_agree_with_their_counterparts():
    for operator in gpu.operators('cpu', quick=True):
        ours = operator.ours(*operator.inputs)
        assert ours.numel()
        if operator.theirs:
            theirs = operator.theirs(*operator.inputs)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


@pytest.mark.usefixtures('no_gpu')
def test_without_a_gpu_it_refuses(capsys):
    with pytest.raises(SystemExit, match='sees no CUDA GPU: nothing was measured'):
        gpu.main([])
    assert gpu.main(['--if-present']) == {}
    assert capsys.readouterr().out.startswith('skipped: torch sees no CUDA GPU')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--device', 'cpu'], 'its numbers mean nothing'),
        ([*QUICK, '--out', 'page.md'], '--out is only for measurements on a GPU'),
    ],
)
def test_a_cpu_is_for_trying_only(options, message, capsys):
    with pytest.raises(SystemExit) as error:
        gpu.main(options)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def exhausted(limit: int, *args: object) -> dict:
    """What a device does that holds no more than `limit` images."""
    if args[3] > limit:
        raise torch.OutOfMemoryError
    return dict(batch=args[3])


def test_the_batch_is_halved_until_it_fits(monkeypatch):
    args = gpu.parse([])
    monkeypatch.setattr(gpu, '_training_row', partial(exhausted, 5))
    assert gpu.training_row(None, 'Full', 'fp32', args) == dict(batch=4)
    monkeypatch.setattr(gpu, '_training_row', partial(exhausted, 0))
    with pytest.raises(torch.OutOfMemoryError):
        gpu.training_row(None, 'Full', 'fp32', args)


def test_what_there_is_no_time_or_memory_for_is_named():
    deadline = gpu.Deadline(60)
    assert deadline.run('first', lambda: [dict(a=1)]) == [dict(a=1)]
    assert deadline.run('second', partial(exhausted, 0, None, None, None, 1)) == []
    deadline.end = 0
    assert deadline.run('third', lambda: [dict(a=1)]) == []
    assert deadline.left_out == ['second: out of memory', 'third: out of time']


def test_memory_of_weights_and_optimizer_is_counted():
    model = _detectors.adapted(_detectors.detector('tiny'), 'Full').train()
    optimizer = _detectors.optim_wrapper(model, 'fp32')
    weights = _detectors.resident_bytes(model, optimizer)
    count = sum(p.numel() for p in model.parameters())
    assert 4 * count < weights < 4.1 * count
    model.train_step(_detectors.batch(2, 64, 'cpu'), optimizer)
    # two moments of every weight, and a counter
    added = _detectors.resident_bytes(model, optimizer) - weights
    assert added == 8 * count + 4 * len(list(model.parameters()))


def test_make_knows_the_target():
    text = (ROOT / 'Makefile').read_text()
    recipe = text.partition('\ngpu:')[2].partition('\n\n')[0]
    assert '-m pytest -m gpu -rs tests/gpu' in recipe
    assert 'tools/benchmark/gpu.py --if-present' in recipe
