"""Uniform soup after task-oriented pretraining, with the statistics of its norms."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from mmir.registry import HOOKS
from mmir.reid.backbones import TwoStemBackbone
from mmir.utils.checkpoint import save_checkpoint_atomic
from mmir.utils.errors import UserError

from .dual_path import DualPathBackbone
from .soup import VARIANCES

FILENAME = 'soup.pth'
"""Checkpoint that the hook writes."""


class _TwoViews(nn.Module):
    """Run a backbone on batches of which the first half are views of path 'rgb'."""

    def __init__(self, backbone: TwoStemBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> None:
        """Run it."""
        half = len(images) // 2
        self.backbone(images, ['rgb'] * half + ['ir'] * half)


def recalibrate_soup(
    backbone: TwoStemBackbone,
    batches: Iterable[tuple[Tensor, Tensor]],
    most: int = 200,
) -> int:
    """Measure the statistics of batch norms anew, by PyTorch's `update_bn`.

    Statistics of averaged weights are not the averages of the statistics. Stems see
    the views of their path, all other norms see both.

    Args:
        backbone (TwoStemBackbone): What a soup made.
        batches (Iterable): Views (N, 3, H, W) of path 'rgb' and of path 'ir' of N
            images, preprocessed.
        most (int): Most batches to read.

    Returns:
        int: Number of batches read; 0 for a network without batch norms, such as
        LightCNN.

    Raises:
        UserError: There are no batches.
    """
    norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return 0
    used = 0

    def joined() -> Iterator[Tensor]:
        """Both views of each batch, one after the other."""
        nonlocal used
        for views in islice(batches, most):
            used += 1
            yield torch.cat(tuple(views))

    views = _TwoViews(backbone).train(backbone.training)  # which is restored
    update_bn(joined(), views)
    if not used:
        raise UserError('no batches to measure norms on: the data loader is empty')
    for norm in norms:
        all_reduce(norm.running_mean, 'mean')
        all_reduce(norm.running_var, 'mean')
    return used


@HOOKS.register_module()
class UniformSoupHook(Hook):
    """After task-oriented pretraining, write the network to fine-tune: `soup.pth`.

    The network is that of :func:`mmir.reid.uniform_soup`; its report is logged and
    stored in the file under `meta`. Give it to a :class:`mmir.reid.TwoStemBackbone` by
    `init_cfg=dict(type='Pretrained', checkpoint='.../soup.pth')`.

    Args:
        variance (str): How variances of norms are averaged: 'total' or 'mean'.
        recalibrate (bool): Whether to measure the statistics of norms on training
            batches instead. Without it, the file is the plain average.
        batches (int): Batches to measure on, in each process.

    Raises:
        UserError: An argument has no such value.
    """

    priority = 'LOW'  # after a hook that synchronizes buffers

    def __init__(
        self, variance: str = 'total', recalibrate: bool = True, batches: int = 200
    ) -> None:
        if variance not in VARIANCES or batches < 1:
            raise UserError(
                f'variance={variance!r} must be one of {VARIANCES}, and batches='
                f'{batches} at least 1'
            )
        self.variance, self.recalibrate, self.batches = variance, recalibrate, batches

    def before_train(self, runner: Runner) -> None:
        """Check model and classes before the training, not after it.

        Raises:
            UserError: The model has no two paths, another hook averages the weights,
                training and validation images have other classes, or the head has too
                few.
        """
        if not isinstance(_backbone(runner), DualPathBackbone):
            raise UserError(
                'UniformSoupHook averages the paths of a mmir.DualPathBackbone, but '
                f'the backbone is a {type(_backbone(runner)).__name__}'
            )
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                'UniformSoupHook would average the weights of the last step, but the '
                'checkpoints of this run hold their moving average. Remove one of the '
                'hooks, or use tools/model_converters/uniform_soup.py on a checkpoint'
            )
        _require_classes(runner)

    def after_train(self, runner: Runner) -> None:
        """Average, measure and save."""
        backbone, report = _backbone(runner).soup(self.variance)
        runner.logger.info(f'uniform soup\n{report}')
        if self.recalibrate:
            used = recalibrate_soup(backbone, _views(runner), self.batches)
            runner.logger.info(f'statistics of norms measured on {used} batches')
        path = Path(runner.work_dir, FILENAME)
        meta = dict(soup=report._asdict(), recalibrated=self.recalibrate)
        _save(dict(meta=meta, state_dict=backbone.state_dict()), path)


def _require_classes(runner: Runner) -> None:
    """Refuse data whose classes are numbered in another way than those of the head."""
    loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
    sets = [loop.dataloader.dataset for loop in loops]
    names = [data.metainfo.get('classes') for data in sets]
    if any(other != names[0] for other in names[1:]):
        raise UserError(
            f'the folders of classes differ: {sets[0].img_prefix} has {len(names[0])}, '
            f'{sets[1].img_prefix} has {len(names[1])} or others, so the same number '
            'would mean another class'
        )
    head = _model(runner).head.fc.out_features
    if names[0] is not None and len(names[0]) > head:
        raise UserError(
            f'{sets[0].img_prefix} has {len(names[0])} classes, the head {head}: set '
            f'num_classes={len(names[0])}'
        )


def _model(runner: Runner) -> nn.Module:
    """The model, not wrapped."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _backbone(runner: Runner) -> nn.Module:
    """Backbone of the model."""
    return _model(runner).backbone


def _views(runner: Runner) -> Iterator[tuple[Tensor, Tensor]]:
    """Preprocessed views of the training batches."""
    model = _model(runner)
    for batch in runner.train_dataloader:
        yield model.data_preprocessor(batch, True)['inputs']


@master_only
def _save(content: dict, path: Path) -> None:
    """Write the file, once."""
    save_checkpoint_atomic(content, path)
