"""A loss that is not finite: reported with its images, stopped or skipped."""

import math
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import crash_toy
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmir.engine import AtomicCheckpointHook, NonFiniteLossError, NonFiniteLossHook

BATCH = 2


class Points(Dataset):
    """Points in order; those of the given batches are replaced by a value."""

    metainfo: dict = {}

    def __init__(self, batches: int, bad: dict[int, float], without: bool) -> None:
        noise = torch.Generator().manual_seed(0)
        x = torch.randn(batches, BATCH, 3, generator=noise)
        for index, value in bad.items():
            x[index] = value
        kept = [k for k in range(batches) if not (without and k in bad)]
        self.x = x[kept].flatten(0, 1)
        self.names = [f'{k}_{n}.png' for k in kept for n in range(BATCH)]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        meta = dict(img_path=self.names[i])
        return dict(inputs=self.x[i], data_samples=BaseDataElement(metainfo=meta))


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.register_buffer('mask', torch.tensor([0.0, -math.inf]))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = torch.stack(inputs)
        y = self.net(inputs).square()
        # the gradient of the second term is NaN where it is 0, its value is not
        root = (inputs * self.net[0].weight[0]).square().sum(1).sqrt()
        return dict(loss_box=y.mean(), loss_root=root.mean(), accuracy=y.sum() / 0)


class Break(Hook):
    """Make a weight NaN after an epoch's last step, with no loss that shows it."""

    priority = 'NORMAL'

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            runner.model.net[2].bias.data.fill_(math.nan)


def train(
    folder: Path,
    hook: NonFiniteLossHook,
    bad: dict[int, float],
    without: bool = False,
    hooks: tuple = (),
    batches: int = 4,
    epochs: int = 2,
    **wrapper: object,
) -> Runner:
    loader = DataLoader(Points(batches, bad, without), BATCH, collate_fn=pseudo_collate)
    runner = Runner(
        Net(),
        str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01), **wrapper),
        default_hooks=dict(checkpoint=AtomicCheckpointHook(interval=1)),
        custom_hooks=[
            hook,
            dict(type='EMAHook', update_buffers=True, momentum=0.3),
            *hooks,
        ],
        randomness=dict(seed=0),
        experiment_name=uuid.uuid4().hex,
        log_level='ERROR',
    )
    runner.train()
    return runner


def state_of(folder: Path, epoch: int) -> dict:
    content = torch.load(folder / f'epoch_{epoch}.pth', weights_only=False)
    return {**content['state_dict'], **content['ema_state_dict']}


def test_training_stops_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        train(tmp_path, NonFiniteLossHook(), {2: math.nan}, epochs=3)
    assert str(caught.value) == (
        'epoch 1, iteration 3: the loss or its gradients are not finite (loss: nan, '
        'loss_box: nan, loss_root: nan) on 2_0.png, 2_1.png. Training stopped and '
        'nothing was saved since the start. Check these images and their labels, '
        'lower the learning rate, or skip such steps with --cfg-options '
        'default_hooks.non_finite.action=skip.'
    )
    assert not list(tmp_path.glob('*.pth'))


class Poison(Hook):
    """Replace the inputs of one iteration, so that epochs before it are sound."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration: int, value: float) -> None:
        self.iteration, self.value = iteration, value

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            data_batch['inputs'][0].fill_(self.value)


def test_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r'epoch 2, iteration 6: .* on 1_0'):
        train(tmp_path, NonFiniteLossHook(), {}, hooks=(Poison(5, math.inf),))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    weights = state_of(tmp_path, 1)
    finite = [k for k, v in weights.items() if v.isfinite().all()]
    assert set(weights) - set(finite) == {'mask', 'module.mask'} & set(weights)


@pytest.mark.parametrize('value', [math.nan, math.inf, 0.0])
def test_a_skipped_step_leaves_no_trace(tmp_path: Path, value: float) -> None:
    """As if the batch were not there: weights, statistics, averages, optimizer.

    With zeros the loss is finite and its gradient is not.
    """
    bad = {1: value, 3: value}
    a, b = tmp_path / 'skipped', tmp_path / 'without'
    train(a, NonFiniteLossHook('skip'), bad)
    train(b, NonFiniteLossHook('skip'), bad, without=True)
    first, second = (torch.load(p / 'epoch_2.pth', weights_only=False) for p in (a, b))
    moments = [f['optimizer']['state'] for f in (first, second)]
    assert moments[0].keys() == moments[1].keys()
    for name, state in moments[0].items():
        for key, got in state.items():
            assert torch.equal(got, moments[1][name][key]), (name, key)
    # the average sees more steps, but none with values that are not finite
    for key, got in first['ema_state_dict'].items():
        if 'steps' not in key:
            assert torch.equal(got, second['ema_state_dict'][key]), key
    average = first['state_dict']
    assert all(v.isfinite().all() for k, v in average.items() if k != 'mask')


def test_gradients_that_are_not_finite_stop_at_once_where_they_are_clipped(
    tmp_path: Path,
) -> None:
    with pytest.raises(NonFiniteLossError, match=r'iteration 2: .*grad_norm: nan\) on'):
        train(
            tmp_path,
            NonFiniteLossHook(),
            {1: 0.0},
            clip_grad=dict(max_norm=1, norm_type=2),
        )


def test_an_accumulated_step_is_skipped_as_a_whole(tmp_path: Path) -> None:
    hook = NonFiniteLossHook('skip')
    runner = train(tmp_path, hook, {1: math.nan}, epochs=1, accumulative_counts=2)
    (state, *_) = runner.optim_wrapper.optimizer.state.values()
    assert state['step'] == 1  # of two, the first had the bad half
    assert runner.model.net[1].num_batches_tracked == 3


class Scaled(OptimWrapper):
    """What `AmpOptimWrapper` does, which needs a GPU."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**127)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return self.loss_scaler.scale(loss)

    def step(self, **kwargs: object) -> None:
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


def test_a_loss_scaler_may_overflow_and_still_skips_a_bad_batch(tmp_path: Path) -> None:
    """The scale is far too large at first; the statistics survive the bad batch."""
    OPTIM_WRAPPERS.register_module(module=Scaled, force=True)
    first, third = tmp_path / 'sound', tmp_path / 'bad'
    for action in ('stop', 'skip'):
        runner = train(first / action, NonFiniteLossHook(action), {}, type='Scaled')
        assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127
    bad = {3: math.nan}
    train(third, NonFiniteLossHook('skip'), bad, type='Scaled')
    weights = state_of(third, 2)
    assert all(v.isfinite().all() for k, v in weights.items() if 'mask' not in k)
    with pytest.raises(NonFiniteLossError, match='epoch 1, iteration 4'):
        train(tmp_path / 'stop', NonFiniteLossHook(), bad, type='Scaled')


def test_skipping_ends_when_nothing_else_happens(tmp_path: Path) -> None:
    bad = dict.fromkeys(range(1, 30), math.nan)
    with pytest.raises(NonFiniteLossError, match=r'iteration 21: .*20 steps in a row'):
        train(tmp_path, NonFiniteLossHook('skip'), bad, batches=30, epochs=1)


@pytest.mark.parametrize('action', ['stop', 'skip'])
def test_broken_weights_are_not_saved(tmp_path: Path, action: str) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        train(tmp_path, NonFiniteLossHook(action), {}, hooks=(Break(2),))
    assert str(caught.value) == (
        'epoch 2: weights are not finite (net.2.bias) and were not saved. The last '
        f'checkpoint is {tmp_path}/epoch_1.pth. Lower the learning rate, or clip the '
        'gradients (optim_wrapper.clip_grad).'
    )
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')


def test_all_files_of_a_pair_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pair(self: Points, i: int) -> dict:
        meta = dict(img_path='a.png', img_paths=dict(rgb=f'a{i}.png', ir=f'b{i}.png'))
        return dict(inputs=self.x[i], data_samples=BaseDataElement(metainfo=meta))

    monkeypatch.setattr(Points, '__getitem__', pair)
    with pytest.raises(NonFiniteLossError, match=r'on a2.png, b2.png, a3.png, b3.png'):
        train(tmp_path, NonFiniteLossHook(), {1: math.nan})


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match="'stop' or 'skip', got 'ignore'"):
        NonFiniteLossHook('ignore')


@pytest.mark.slow
@pytest.mark.parametrize('action', ['skip', 'stop'])
def test_two_ranks_agree(tmp_path: Path, action: str) -> None:
    """The bad image is on one rank; all skip, or the run stops and it is named."""
    config = crash_toy.config(tmp_path, 'epoch')
    root = Path(__file__).parents[2]
    train_tool = str(root / 'tools/train.py')
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    work = ['--launcher', 'pytorch', '--work-dir', str(tmp_path / 'w')]
    options = ['--cfg-options', f'default_hooks.non_finite.action={action}']
    with Path(config).open('a') as file:
        file.write(
            "\ndefault_hooks['non_finite'] = dict(type='mmir.NonFiniteLossHook')\n"
        )
    path = os.pathsep.join([str(root), str(root / 'tests')])
    done = subprocess.run(
        [sys.executable, *launch, train_tool, config, *work, *options],
        env={
            **os.environ,
            'PYTHONPATH': path,
            'CUDA_VISIBLE_DEVICES': '',
            'OMP_NUM_THREADS': '1',
            'CRASH_NAN': '5',
        },
        capture_output=True,
        text=True,
    )
    if action == 'stop':
        assert done.returncode != 0
        assert re.search(r'error: (rank 1: )?epoch 1, iteration \d: the', done.stderr)
        assert not list((tmp_path / 'w').glob('*.pth'))
        return
    assert done.returncode == 0, done.stderr
    weights = state_of(tmp_path / 'w', 3)
    assert all(value.isfinite().all() for value in weights.values())
    assert 'the step is skipped' in done.stdout + done.stderr
