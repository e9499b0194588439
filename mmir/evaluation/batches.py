"""Modify images of packed batches between the data loader and the model."""

import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from mmir.structures import ABSENT, PATHS, split_modalities

ImageChange = Callable[[Tensor, Mapping], Tensor]
"""Takes an image (C, H, W) and its metainfo, returns a new one of the same dtype."""

_FLIPPED = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


def change_modality(batch: dict, name: str, change: ImageChange) -> dict:
    """Change the images of one modality in a packed batch, keeping labels and metainfo.

    Args:
        batch (dict): `inputs`, a list of (C, H, W) tensors or a (B, C, H, W) tensor, or
            lists of them with test-time augmentation, and matching `data_samples`. Not
            modified.
        name (str): The modality. Samples in which it is absent are left alone.
        change (ImageChange): Called with the channels of the modality (with any flip
            undone) and the metainfo.

    Returns:
        dict: The batch with new `inputs`.

    Raises:
        PairError: A sample is not paired.
    """

    def one(inputs: Tensor, meta: Mapping) -> Tensor:
        """Change the modality in the inputs of one sample."""
        if name in meta.get(ABSENT, ()):
            return inputs
        inputs = inputs.clone()
        part = split_modalities(inputs, meta)[name]
        dims = _FLIPPED[meta['flip_direction']] if meta.get('flip') else ()
        part.copy_(change(part.flip(dims), meta).flip(dims))
        return inputs

    return dict(batch, inputs=_mapped(batch['inputs'], batch['data_samples'], one))


def _mapped(inputs: object, samples: object, change: ImageChange) -> object:
    """Apply to one image, or to each one in (nested) lists or a stacked tensor."""
    if not isinstance(samples, list | tuple):
        return change(inputs, samples.metainfo)
    pairs = zip(inputs, samples, strict=True)
    done = [_mapped(x, s, change) for x, s in pairs]
    return torch.stack(done) if isinstance(inputs, Tensor) else done


def generator_of(meta: Mapping, seed: int, purpose: str) -> np.random.Generator:
    """Make a random generator that is specific to an image.

    Its seed derives from the file names (last three path components, so that data may
    move), not from the place in a batch. It is the same for any order, batch size,
    number of workers or ranks, for every augmented view, and in every run.

    Args:
        meta (Mapping): Metainfo with `img_paths`.
        seed (int): Base seed.
        purpose (str): Keeps the numbers of different uses independent.

    Returns:
        np.random.Generator: A new generator.
    """
    paths = [str(path or '') for path in meta.get(PATHS, {}).values()]
    names = ['/'.join(PurePath(path).parts[-3:]) for path in paths]
    marks = [zlib.crc32(text.encode()) for text in ('|'.join(names), purpose)]
    return np.random.default_rng([seed, *marks])
