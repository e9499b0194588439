"""Statistics of norms for passes with one modality, estimated after training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, product

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.layers.solo_statistics import SoloStatistics, Statistics, modality_norms
from mmir.structures import ABSENT, MODALITIES, drop_modalities
from mmir.utils.errors import UserError

FILENAME = 'recalibrated.pth'
"""Checkpoint that the hook writes."""


@torch.no_grad()
def recalibrate_norms(
    model: nn.Module,
    loader: Iterable[dict],
    modalities: str | Sequence[str],
    batches: int = 100,
) -> dict[str, int]:
    """Estimate the statistics of norms in passes with one modality alone.

    The norms of a modality (see :func:`modality_norms`) run in training mode, all else
    in evaluation mode, on batches without the other modalities. Their statistics are
    averages over the batches with equal weights, and over the ranks, as with
    `momentum=None` in PyTorch. They are stored in `model.solo_statistics`; neither the
    norms nor joint passes are changed.

    Args:
        model: Model with the attribute `solo_statistics`, such as `mmir.seg.CSKNet`.
        loader: Batches of paired samples, as a data loader yields them; read once, for
            all modalities. A loader with mmengine's `InfiniteSampler` cannot be read
            again. Samples without a modality are left out.
        modalities: Name of a modality, or several, each measured alone.
        batches: Most batches to read.

    Returns:
        Modality -> number of batches that were used.

    Raises:
        UserError: The model holds no such statistics or has no norms of a modality, or
            no batch has the modality.
    """
    names = [modalities] if isinstance(modalities, str) else [*modalities]
    model = model.module if is_model_wrapper(model) else model
    store = getattr(model, 'solo_statistics', None)
    if not isinstance(store, SoloStatistics):
        raise UserError(
            f'{type(model).__name__} has no `solo_statistics` to store statistics of '
            'norms in. Use a model such as mmir.CSKNet'
        )
    used = dict.fromkeys(names, 0)
    norms = {name: _norms_of(model, name) for name in names}
    with _measured(model, [norm for own in norms.values() for norm in own.values()]):
        for batch, name in product(islice(loader, batches), names):
            if alone := _only(batch, name):
                data = model.data_preprocessor(alone, True)
                model(data['inputs'], data['data_samples'], mode='tensor')
                used[name] += 1
        for name in names:
            _require_batches(name, used[name])
        for name in names:
            store.record(name, _averages(norms[name]))
    return used


def _norms_of(model: nn.Module, modality: str) -> dict[str, _BatchNorm]:
    """The norms of a modality; at least one."""
    norms = modality_norms(model, modality)
    if not norms:
        raise UserError(
            f'{type(model).__name__} has no batch norms of the modality {modality!r}. '
            'Use one of its modalities, and `separate` other than none'
        )
    return norms


def _require_batches(modality: str, used: int) -> None:
    """Refuse a rank without batches: the others would wait for it."""
    least = torch.tensor(used)
    all_reduce(least, 'min')
    if not least:
        raise UserError(
            f'no sample of the loader has the modality {modality!r}, so the '
            'statistics of its norms cannot be estimated'
        )


@contextmanager
def _measured(model: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let norms average statistics; restores all of the model afterwards."""
    modes = {module: module.training for module in model.modules()}
    former = {
        norm: (
            norm.momentum,
            norm.running_mean,
            norm.running_var,
            norm.num_batches_tracked,
        )
        for norm in norms
    }
    try:
        model.eval()
        for norm in norms:
            norm.train()
            norm.momentum = None  # cumulative average
            norm.running_mean = torch.zeros_like(norm.running_mean)
            norm.running_var = torch.ones_like(norm.running_var)
            norm.num_batches_tracked = torch.zeros_like(norm.num_batches_tracked)
        yield
    finally:
        for norm, values in former.items():
            norm.momentum, norm.running_mean, norm.running_var = values[:3]
            norm.num_batches_tracked = values[3]
        for module, mode in modes.items():
            module.training = mode


def _averages(norms: Mapping[str, _BatchNorm]) -> dict[str, Statistics]:
    """Averages of those norms that ran."""
    ran = {name: norm for name, norm in norms.items() if norm.num_batches_tracked}
    for norm in ran.values():
        for value in (norm.running_mean, norm.running_var):
            all_reduce(value, 'mean')
    return {name: (norm.running_mean, norm.running_var) for name, norm in ran.items()}


def _only(batch: dict, modality: str) -> dict | None:
    """The samples of a batch that have a modality, without the others."""
    samples = batch['data_samples']
    rows = [
        k
        for k, sample in enumerate(samples)
        if modality not in sample.metainfo.get(ABSENT, ())
    ]
    if not rows:
        return None
    kept = dict(
        inputs=[batch['inputs'][k] for k in rows],
        data_samples=[samples[k] for k in rows],
    )
    meta = samples[rows[0]].metainfo
    return drop_modalities(kept, [n for n in meta[MODALITIES] if n != modality])


@HOOKS.register_module()
class NormRecalibrationHook(Hook):
    """After training, estimate the norms' statistics for single modalities.

    See :func:`recalibrate_norms`. The batches are those of the training loader. The
    model is then saved as `recalibrated.pth` in the folder of the run: the last
    checkpoint of training was written before.

    Results of one modality alone depend on it, so report which checkpoint they are of.

    Args:
        modalities (Sequence[str]): Modalities that are tested alone.
        batches (int): Batches per modality.

    Raises:
        ValueError: `modalities` is empty or a string, or `batches` is below 1.
    """

    priority = 'LOW'  # after a hook that synchronizes buffers

    def __init__(self, modalities: Sequence[str] = ('ir',), batches: int = 100) -> None:
        if isinstance(modalities, str) or not modalities or batches < 1:
            raise ValueError(
                "give modalities as a list such as ['ir'], and at least one batch; got "
                f'{modalities!r} and {batches}'
            )
        self.modalities, self.batches = tuple(modalities), batches

    def before_train(self, runner: Runner) -> None:
        """Check that the statistics will belong to the weights that are saved.

        Raises:
            UserError: Another hook averages the weights.
        """
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                'NormRecalibrationHook would measure the weights of the last step, but '
                'the checkpoints of this run hold their moving average. Remove one of '
                'the hooks, or call mmir.engine.recalibrate_norms on a checkpoint'
            )

    def after_train(self, runner: Runner) -> None:
        """Estimate, and save the model."""
        used = recalibrate_norms(
            runner.model, runner.train_dataloader, self.modalities, self.batches
        )
        runner.logger.info(f'norms of single modalities measured on batches: {used}')
        runner.save_checkpoint(
            runner.work_dir,
            FILENAME,
            save_optimizer=False,
            save_param_scheduler=False,
            backend_args=dict(backend='mmir.atomic'),
        )
