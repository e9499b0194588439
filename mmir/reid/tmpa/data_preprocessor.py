"""`PedMixDataPreprocessor`: PedMix on the batches of training."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmir.registry import MODELS
from mmir.utils.errors import UserError

from .pedmix import PedMix

MODES = ('replace', 'append')


@MODELS.register_module()
class PedMixDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's `ClsDataPreprocessor` with :class:`PedMix` after normalization.

    For batches of :class:`mmir.CrossModalIdentitySampler`: the k-th RGB and the k-th
    infrared image must show the same person. Only training batches are mixed.

    Masks depend on `seed`, on the number of the training batch and on the place of a
    pair in the batch of all processes. So they are the same with one GPU and with
    several, and after resuming. The number of the batch is a buffer of the checkpoint.

    Args:
        pedmix (Mapping, optional): Arguments of :class:`PedMix`.
        mode (str): 'replace' mixes a pair with probability `prob`. 'append' keeps the
            batch and adds the mixed images of all pairs, which doubles it.
        prob (float): Probability of a pair to be mixed; 1 for 'append'.
        seed (int): Random seed, the same in all processes.
        **kwargs: Arguments of mmpretrain's `ClsDataPreprocessor`.

    Raises:
        UserError: An argument has no such value.
    """

    mixed_batches: Tensor

    def __init__(
        self,
        pedmix: Mapping[str, Any] | None = None,
        mode: str = 'replace',
        prob: float = 0.5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mode not in MODES:
            raise UserError(f'mode={mode!r}: choose one of {MODES}')
        if not 0 <= prob <= 1 or (mode == 'append' and prob != 1):
            raise UserError(
                f"prob={prob}: must be from 0 to 1, and 1 for mode='append', which "
                'adds the mixed images of all pairs'
            )
        self.pedmix = PedMix(**(pedmix or {}))
        self.mode, self.prob, self.seed = mode, prob, seed
        self.register_buffer('mixed_batches', torch.zeros((), dtype=torch.int64))
        self._batches: int | None = None  # the same number on the host

    def forward(self, data: dict, training: bool = False) -> dict:
        """Collate, normalize and, in training, mix.

        Args:
            data (dict): Batch of the loader.
            training (bool): Whether the batch is for training.

        Returns:
            dict: `inputs` (N, C, H, W), float32, and `data_samples`.

        Raises:
            UserError: The batch does not hold pairs of images of the same people.
        """
        data = super().forward(data, training)
        return self.mix(data) if training else data

    def mix(self, data: dict) -> dict:
        """Mix a normalized batch.

        Args:
            data (dict): `inputs` (N, C, H, W) and `data_samples`.

        Returns:
            dict: The same keys; with 'append', twice as many samples.

        Raises:
            UserError: The batch does not hold pairs of images of the same people.
        """
        images, samples = data['inputs'], data['data_samples']
        rgb, ir = _pairs(samples)
        masks = self._draw(len(rgb))
        mixed = images.clone()
        mixed[rgb], mixed[ir] = self.pedmix.mix(images[rgb], images[ir], masks)
        if self.mode == 'replace':
            return data | dict(inputs=mixed)
        samples = [*samples, *(copy.deepcopy(sample) for sample in samples)]
        return data | dict(inputs=torch.cat([images, mixed]), data_samples=samples)

    def _draw(self, pairs: int) -> Tensor:
        """Draw the masks of the pairs of this process, as its part of all of them."""
        if self._batches is None:
            self._batches = int(self.mixed_batches)
        # the generator of PyTorch takes 32 bits, so seed and batch are hashed
        source = np.random.SeedSequence([self.seed, self._batches])
        generator = torch.Generator().manual_seed(int(source.generate_state(1)[0]))
        self._batches += 1
        self.mixed_batches += 1
        total, first = pairs * get_world_size(), pairs * get_rank()
        chosen = torch.rand(total, generator=generator) < self.prob
        masks = self.pedmix.draw(total, generator)
        masks = masks & chosen[:, None, None]
        return masks[:, first : first + pairs]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Go on with the number of the batch in a checkpoint."""
        super()._load_from_state_dict(*args, **kwargs)
        self._batches = None


def _pairs(samples: Sequence[DataSample] | None) -> tuple[list[int], list[int]]:
    """Places of the RGB and of the infrared images of a batch, pair by pair."""
    known = [sample.get('modality') for sample in samples or ()]
    rgb, ir = (
        [k for k, given in enumerate(known) if given == name] for name in ('rgb', 'ir')
    )
    if len(rgb) + len(ir) != len(known) or len(rgb) != len(ir) or not known:
        raise UserError(
            f'PedMix needs as many RGB as infrared images, got {len(rgb)} and {len(ir)}'
            f" of {len(known)} samples; use sampler=dict(type='mmir."
            "CrossModalIdentitySampler') and keep `modality` by PackInputs(meta_keys)"
        )
    # one copy to the host for the whole batch
    found = torch.cat([sample.gt_label for sample in samples]).tolist()
    for k, (one, other) in enumerate(zip(rgb, ir, strict=True)):
        if found[one] != found[other]:
            raise UserError(
                f'pair {k} of the batch shows two people (labels {found[one]} and '
                f'{found[other]}), which '
                "PedMix must not mix; use sampler=dict(type='mmir."
                "CrossModalIdentitySampler')"
            )
    return rgb, ir
