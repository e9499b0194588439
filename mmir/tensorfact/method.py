"""TensorFact as a method of adaptation."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from mmir.adapters import Method, names_of, replace_, tally
from mmir.adapters.low_rank import describe_cuts

from .complementarity_hook import attach_complementarity_
from .factorize import augment_, factorize_
from .kernels import Checkpoint
from .layer import TensorFactConv
from .rank import Rank


@MODELS.register_module()
class TensorFact(Method):
    """Factorize the convolutions of a model, freeze the factors and train deltas.

    TensorFact (arXiv 2309.16592) has two stages. The first trains the factors on RGB
    images; nothing is frozen (`delta=None`). The second freezes the factors and trains
    a low-rank delta per layer for the new camera.

    Args:
        rank: Rank of the factors, see `factorize_`; None if the model has them already.
        split: How a kernel is reshaped to a matrix, see `TensorFactConv`.
        delta: Rank of the deltas, or a dict of the arguments of `augment_` except the
            name (`rank`, `include`, ...); None for the first stage.
        comp_loss: Arguments of `attach_complementarity_`; None for no such loss.
        include: Regular expressions; only layers whose names match one are factorized.
            Default: all layers.
        exclude: Regular expressions; layers whose names match one are skipped. Default:
            the heads, see `walk.HEADS`.
        checkpoint: See `factorize_`; dense weights for rank rules that read weights.
        **options: Other options of `factorize_`.

    Raises:
        ValueError: An option lacks another one it needs: a rank that reads weights
            needs `checkpoint`, `comp_loss` a delta, all other options a rank.
    """

    def __init__(
        self,
        rank: Rank | None = None,
        split: str = 'ts_dd',
        delta: int | Mapping[str, Any] | None = 1,
        comp_loss: Mapping[str, Any] | None = None,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        checkpoint: Checkpoint | None = None,
        **options: Any,
    ) -> None:
        self.rank, self.comp_loss = rank, comp_loss
        self.delta = {'rank': delta} if isinstance(delta, int) else delta
        self.factors = dict(
            options,
            split=split,
            include=include,
            exclude=exclude,
            checkpoint=checkpoint,
        )
        self.freezes = self.stage = delta is not None
        if comp_loss is not None and delta is None:
            raise ValueError('TensorFact: comp_loss needs a delta')
        if rank is None and (options or checkpoint is not None):
            raise ValueError(
                f'TensorFact: {sorted(options) or "checkpoint"} without factors: give '
                'a rank'
            )
        reads_weights = isinstance(rank, Mapping) and {'energy', 'budget'} & set(rank)
        if reads_weights and checkpoint is None:
            raise ValueError(
                f'rank {dict(rank)} is read from trained weights, and the model is not '
                'trained yet: give checkpoint=PATH of dense ones'
            )

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Factorize the convolutions, then add deltas; see `Method`."""
        notes, plain = {}, dict(model.named_modules())
        if self.rank is not None:
            report = factorize_(model, self.rank, **self.factors)
            notes['factors'] = str(report)
            if report.skipped:
                notes['left dense'] = tally(report.skipped)
            notes |= describe_cuts(_number(self.rank), report.ranks)
        elif not any(True for _ in names_of(model, TensorFactConv)):
            raise ValueError('TensorFact: the model has no factors yet, give a rank')
        if self.delta is not None:
            try:
                ranks = augment_(model, name, **self.delta)
            except ValueError:
                made = dict(model.named_modules())
                replace_(model, {m: plain[n] for n, m in made.items() if n in plain})
                raise
            notes |= describe_cuts(_number(self.delta.get('rank', 1)), ranks)
        return notes

    def finish_(self, model: nn.Module) -> None:
        """Attach the complementarity loss, if there is one."""
        if self.comp_loss is not None:
            attach_complementarity_(model, **self.comp_loss)


def _number(rank: object) -> int | None:
    """The rank if it is the same for all layers, None for a rule."""
    return rank if isinstance(rank, int) else None
