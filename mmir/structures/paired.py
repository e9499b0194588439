"""The paired sample: one image per modality, one set of labels, what is absent.

In a pipeline, a paired sample is the hosts' results dictionary with

- `modalities`: names in channel order, `rgb` first, the others by name
- `imgs`: name -> image (H, W, C), all of the same H and W once they are registered
- `img_paths`: name -> file of the image
- `absent`: names of the missing modalities; their images are zeros
- `reference`: name of the modality that the labels and `img_path` belong to, if the
  dataset sets it

There is no key `img`: :class:`mmir.structures.PairedResults` tells a single-image
transform that was not wrapped what to do.

After packing, `inputs` is one tensor with the modalities stacked along the channels,
and the metainfo holds `modalities`, `channels` (how many each has) and `absent`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

MODALITIES = 'modalities'
IMAGES = 'imgs'
PATHS = 'img_paths'
CHANNELS = 'channels'
ABSENT = 'absent'
REFERENCE = 'reference'


class PairError(ValueError):
    """The images of a paired sample do not fit together."""


def is_paired(results: Mapping) -> bool:
    """Tell whether a results dictionary is a paired sample."""
    return MODALITIES in results and IMAGES in results


def require_pair(results: Mapping, who: str = '') -> None:
    """Check that a results dictionary is a paired sample.

    Args:
        results (Mapping): What a transform was given.
        who (str): Name of the transform, for the message.

    Raises:
        PairError: It is not; the message lists its keys.
    """
    if not is_paired(results):
        raise _not_paired(results, who)


def _not_paired(results: Mapping, who: str = '') -> PairError:
    prefix = f'{who}: ' if who else ''
    return PairError(
        f'{prefix}not a paired sample: mmir.LoadPairedImages must come first; the '
        f'sample has the keys {sorted(results)}'
    )


def require_one_size(results: Mapping) -> tuple[int, int]:
    """Check that all images have the same size.

    Args:
        results (Mapping): A paired sample.

    Returns:
        tuple[int, int]: Height and width.

    Raises:
        PairError: The sizes differ (the files are named), or there are no images.
    """
    imgs = results.get(IMAGES)
    if not imgs:
        raise _not_paired(results)
    sizes = {name: img.shape[:2] for name, img in imgs.items()}
    if len(set(sizes.values())) > 1:
        paths = results.get(PATHS, {})
        listed = ', '.join(
            f'{name} {w}x{h} ({paths.get(name, "no file")})'
            for name, (h, w) in sizes.items()
        )
        raise PairError(
            f'the images of a pair differ in size (width x height): {listed}. Set '
            "sizes='resize' in mmir.LoadPairedImages if they show the same view, else "
            'register them with mmir.RegisterModality'
        )
    return next(iter(sizes.values()))


def modality_order(names: Iterable[str]) -> tuple[str, ...]:
    """Get the channel order of modalities: `rgb` first, the others by name.

    It must not be the order of a dict in a config: mmengine sorts the keys when it
    writes the config of a run, and testing with that file would feed a trained model
    its channels in another order.

    Args:
        names (Iterable[str]): Names of modalities, in any order.

    Returns:
        tuple[str, ...]: The names in channel order.
    """
    return tuple(sorted(names, key=lambda name: (name != 'rgb', name)))


def split_modalities(
    inputs: Tensor, metainfo: Mapping | Sequence[Mapping]
) -> dict[str, Tensor]:
    """Split a packed image or batch into its modalities.

    Args:
        inputs (Tensor): Shape (C, H, W) or (B, C, H, W), C the sum of all channels.
        metainfo (Mapping | Sequence[Mapping]): Metainfo of the sample, or of all
            samples of the batch, which must agree on modalities and channels.

    Returns:
        dict[str, Tensor]: Name -> (..., channels of the modality, H, W), views.

    Raises:
        PairError: A sample is not paired, samples disagree, or the channels do not add
            up.
    """
    metas = [metainfo] if isinstance(metainfo, Mapping) else list(metainfo)
    layouts = {_layout(meta) for meta in metas}
    if len(layouts) != 1:
        raise PairError(f'samples of one batch differ in modalities: {layouts}')
    names, channels = layouts.pop()
    if sum(channels) != inputs.shape[-3]:
        raise PairError(
            f'the input has {inputs.shape[-3]} channels, but its modalities {names} '
            f'have {channels}'
        )
    return dict(zip(names, inputs.split(channels, dim=-3), strict=True))


def _layout(meta: Mapping) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and channels of the modalities of a packed sample."""
    try:
        return tuple(meta[MODALITIES]), tuple(meta[CHANNELS])
    except KeyError as error:
        raise PairError(
            f'the metainfo has no {error}: not a paired sample. '
            'mmir.PackPairedInputs must end the pipeline'
        ) from None


def drop_modalities(batch: dict, absent: Collection[str]) -> dict:
    """Drop modalities from a packed batch, as the data loader yields it.

    Args:
        batch (dict): `inputs`, a list of (C, H, W) tensors, or lists of them with
            test-time augmentation, and matching `data_samples`. Not modified.
        absent (Collection[str]): Names of the modalities to drop, or one name.

    Returns:
        dict: The batch with their channels zeroed and their names added to `absent` in
        the metainfo.

    Raises:
        PairError: A name is unknown, or no modality would be left.
    """
    absent = {absent} if isinstance(absent, str) else set(absent)
    if not absent:
        return batch
    samples, inputs = batch['data_samples'], batch['inputs']
    pairs = [_drop(x, s, absent) for x, s in zip(inputs, samples, strict=True)]
    if isinstance(inputs, Tensor):
        stacked = torch.stack([x for x, _ in pairs])
        return dict(batch, inputs=stacked, data_samples=[s for _, s in pairs])
    return dict(batch, inputs=[x for x, _ in pairs], data_samples=[s for _, s in pairs])


def _drop(inputs: object, sample: object, absent: set[str]) -> tuple:
    """Drop from one image, or from each of its augmented views."""
    if isinstance(inputs, list | tuple):
        views = [_drop(x, s, absent) for x, s in zip(inputs, sample, strict=True)]
        return [x for x, _ in views], [s for _, s in views]
    meta = sample.metainfo
    inputs = inputs.clone()
    parts = split_modalities(inputs, meta)
    gone = {*meta.get(ABSENT, ()), *absent}
    if unknown := absent - parts.keys():
        raise PairError(f'unknown modalities {sorted(unknown)}, known: {[*parts]}')
    if gone >= parts.keys():
        raise PairError(f'no modality would be left of {[*parts]}')
    for name in absent:
        parts[name].zero_()
    sample = sample.clone()
    sample.set_metainfo({ABSENT: tuple(name for name in parts if name in gone)})
    return inputs, sample
