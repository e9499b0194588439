"""Change images of packed batches between the data loader and the model."""

import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from mmir.structures import ABSENT, PATHS, split_modalities

ImageChange = Callable[[Tensor, Mapping], Tensor]
"""Makes a new image (C, H, W), same dtype, of one and its metadata."""

_FLIPPED = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


def change_modality(batch: dict, name: str, change: ImageChange) -> dict:
    """Change the images of one modality in a packed batch; labels and metadata stay.

    Args:
        batch (dict): `inputs`, a list of (C, H, W) tensors or a (B, C, H, W) tensor, or
            lists of them with test-time augmentation, and `data_samples` to match. Not
            changed.
        name (str): The modality. Where it is absent, the image is left alone.
        change (ImageChange): Called with the modality's channels, turned back where
            the image was flipped, and the metadata.

    Returns:
        dict: The batch with new `inputs`.

    Raises:
        PairError: A sample is not a paired one.
    """

    def one(inputs: Tensor, meta: Mapping) -> Tensor:
        """The inputs of one sample, with the modality changed."""
        if name in meta.get(ABSENT, ()):
            return inputs
        inputs = inputs.clone()
        part = split_modalities(inputs, meta)[name]
        dims = _FLIPPED[meta['flip_direction']] if meta.get('flip') else ()
        part.copy_(change(part.flip(dims), meta).flip(dims))
        return inputs

    return dict(batch, inputs=_mapped(batch['inputs'], batch['data_samples'], one))


def _mapped(inputs: object, samples: object, change: ImageChange) -> object:
    """Apply to one image, or to each of a list, of lists, or of a stacked tensor."""
    if not isinstance(samples, list | tuple):
        return change(inputs, samples.metainfo)
    pairs = zip(inputs, samples, strict=True)
    done = [_mapped(x, s, change) for x, s in pairs]
    return torch.stack(done) if isinstance(inputs, Tensor) else done


def generator_of(meta: Mapping, seed: int, purpose: str) -> np.random.Generator:
    """Random numbers that belong to an image.

    They follow from the names of its files (three folders deep, so that data may move)
    and not from its place in a batch: the same in any order, batch size, number of
    workers and ranks, for each augmented view, and in every run.

    Args:
        meta (Mapping): Metadata with `img_paths`.
        seed (int): Another seed gives other numbers.
        purpose (str): So does another purpose.

    Returns:
        np.random.Generator: A new generator.
    """
    paths = [str(path or '') for path in meta.get(PATHS, {}).values()]
    names = ['/'.join(PurePath(path).parts[-3:]) for path in paths]
    marks = [zlib.crc32(text.encode()) for text in ('|'.join(names), purpose)]
    return np.random.default_rng([seed, *marks])
