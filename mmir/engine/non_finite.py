"""Hook that stops training, or skips the step, when the loss is not finite."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mmir.utils.errors import UserError
from mmir.utils.files import few

_PATIENCE = 20
"""Steps skipped in a row after which the weights themselves must be damaged."""


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss, the gradients or the weights are NaN or infinite."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Report a loss that is NaN or infinite; then stop training, or skip the step.

    The report has the iteration, the loss terms and the image files of the batch (of a
    mosaic, the file of its first image). Weights that are not finite are never written
    to a checkpoint or an adapter file, whatever made them so.

    - `'stop'` ends training with :class:`NonFiniteLossError`. The check reads numbers
      that mmengine's logging has already fetched from the device, so it costs nothing.
    - `'skip'` drops the gradients before the optimizer uses them and restores the
      buffers of the model (the running statistics of batch normalization), so the step
      leaves no trace. All ranks skip together. This costs one norm over the gradients,
      one reduction of a number over the ranks, one synchronization with the device, and
      a copy of the buffers per step. Training stops if 20 steps in a row are skipped.

    With a loss scaler (`AmpOptimWrapper`), gradients that overflow are left to the
    scaler, which skips such steps by itself.

    Args:
        action (str): 'stop' or 'skip'.

    Raises:
        ValueError: `action` is neither.
    """

    priority = 'ABOVE_NORMAL'  # before EMA hooks average and other hooks save

    def __init__(self, action: Literal['stop', 'skip'] = 'stop') -> None:
        if action not in ('stop', 'skip'):
            raise ValueError(f"action must be 'stop' or 'skip', got {action!r}")
        self.action = action
        self._dropped, self._in_a_row = False, 0
        self._buffers: list[Tensor] = []
        self._excused: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Prepare to skip steps; note constants that are infinite on purpose.

        Args:
            runner (Runner): The runner.
        """
        self._excused = set(_non_finite(_bare(runner).state_dict()))
        if self.action == 'skip':
            self._buffers = [buffer.clone() for buffer in runner.model.buffers()]
            for wrapper in _wrappers(runner):
                wrapper.optimizer.register_step_pre_hook(self._drop_bad_gradients)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Check the loss terms of a step.

        Args:
            runner (Runner): The runner, after its `RuntimeInfoHook`.
            batch_idx (int): Index of the batch.
            data_batch (Any): The batch.
            outputs (dict[str, Tensor], optional): Loss terms.

        Raises:
            NonFiniteLossError: One is not finite and `action` is 'stop', or too many
                steps in a row were skipped.
        """
        terms = _terms(runner, outputs or {})
        dropped, self._dropped = self._dropped, False
        if not dropped and all(map(math.isfinite, terms.values())):
            self._in_a_row = 0
            if self._buffers:
                torch._foreach_copy_(self._buffers, list(runner.model.buffers()))
            return
        if self._buffers:
            torch._foreach_copy_(list(runner.model.buffers()), self._buffers)
        self._in_a_row += 1
        where = f'epoch {runner.epoch + 1}, iteration {runner.iter + 1}'
        values = ', '.join(f'{name}: {value:.4g}' for name, value in terms.items())
        files = _files(data_batch)
        report = f'{where}: the loss or its gradients are not finite ({values})'
        # ranks other than 0 log errors only
        runner.logger.error(f'{report}; batch: {", ".join(files) or "no file names"}')
        if self.action == 'stop':
            advice = (
                'lower the learning rate, or skip such steps with --cfg-options '
                'default_hooks.non_finite.action=skip'
            )
        elif self._in_a_row < _PATIENCE:
            runner.logger.error(f'{where}: the step is skipped')
            return
        else:
            advice = f'{_PATIENCE} steps in a row were skipped; lower the learning rate'
        raise NonFiniteLossError(
            f'{report} on {few(files) or "this batch"}. Training stopped and nothing '
            f'was saved since {_last(runner)}. Check these images and their labels, '
            f'{advice}.'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite (called on rank 0).

        Args:
            runner (Runner): The runner.
            checkpoint (dict): What is to be saved.

        Raises:
            NonFiniteLossError: A tensor of the model is NaN or infinite.
        """
        found = _non_finite(checkpoint['state_dict'])
        bad = [name for name in found if name not in self._excused]
        if bad:
            raise NonFiniteLossError(
                f'epoch {runner.epoch + 1}: weights are not finite ({few(bad, 3)}) and '
                f'were not saved. The last checkpoint is {_last(runner)}. Lower the '
                'learning rate, or clip the gradients (optim_wrapper.clip_grad).'
            )

    def _drop_bad_gradients(self, optimizer: Optimizer, *_: object) -> None:
        """Make a step without effect if a gradient is not finite, on all ranks."""
        weights = [w for group in optimizer.param_groups for w in group['params']]
        gradients = [w.grad for w in weights if w.grad is not None]
        if not gradients:
            return
        largest = get_total_norm(gradients, norm_type=math.inf)
        bad = (~largest.isfinite()).float()
        if get_world_size() > 1:
            all_reduce(bad, 'max')
        if bad.item():
            self._dropped = True
            optimizer.zero_grad(set_to_none=True)  # no gradient, no step


def _terms(runner: Runner, outputs: dict[str, Tensor]) -> dict[str, float]:
    """Losses of this step, and the norm of the gradients if it is known."""
    hub = runner.message_hub
    names = [name for name in outputs if 'loss' in name]
    wrappers = list(_wrappers(runner))
    if len(wrappers) == 1 and not hasattr(wrappers[0], 'loss_scaler'):
        norm = getattr(wrappers[0], 'grad_name', None)
        names += [norm] if f'train/{norm}' in hub.log_scalars else []
    return {name: hub.get_scalar(f'train/{name}').current() for name in names}


def _wrappers(runner: Runner) -> Iterator[Any]:
    """Yield the optimizer wrappers of a runner."""
    wrapper = runner.optim_wrapper
    yield from wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _bare(runner: Runner) -> torch.nn.Module:
    """Return the model without the wrapper of distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _non_finite(state: dict[str, Any]) -> list[str]:
    """Names of the tensors that are not finite."""
    return [
        name
        for name, value in state.items()
        if isinstance(value, Tensor)
        and value.is_floating_point()
        and not value.isfinite().all()
    ]


def _files(batch: Any) -> list[str]:
    """Image files of a batch, as the data samples of all hosts have them."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    if not isinstance(samples, Sequence):
        return []
    found: list[str] = []
    for sample in samples:
        pairs = getattr(sample, 'img_paths', None) or {}
        names = pairs.values() if pairs else [getattr(sample, 'img_path', None)]
        found += [str(name) for name in names if name]
    return found


def _last(runner: Runner) -> str:
    """Name the last checkpoint of the run."""
    record = Path(runner.work_dir) / 'last_checkpoint'
    return record.read_text().strip() if record.is_file() else 'the start'
