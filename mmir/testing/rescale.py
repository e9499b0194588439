"""Adapt a training config to another number of epochs, batch size or image size.

A config repeats the same quantity in several places (the number of epochs in the loop,
in two schedulers and in a hook). These functions change all of them together.
"""

from collections.abc import Iterator
from statistics import mode

from mmengine.config import Config


def set_schedule(cfg: Config, epochs: int, batch_size: int) -> None:
    """Set the number of training epochs, in place.

    Schedulers and hooks that count epochs are scaled in proportion. The warm-up lasts
    at least one epoch.

    Args:
        cfg (Config): Config with an epoch-based loop.
        epochs (int): Number of epochs.
        batch_size (int): Images per batch.
    """
    factor = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = max(1, epochs // 5)
    cfg.train_dataloader.batch_size = batch_size
    for scheduler in cfg.param_scheduler:
        _stretch(scheduler, factor, epochs)
    # drop schedulers that would start after the last epoch
    cfg.param_scheduler = [s for s in cfg.param_scheduler if s.get('begin', 0) < epochs]
    for hook in cfg.get('custom_hooks', []):
        if 'num_last_epochs' in hook:
            hook.num_last_epochs = max(1, round(hook.num_last_epochs * factor))
        if 'switch_epoch' in hook:
            hook.switch_epoch = max(1, round(hook.switch_epoch * factor))
    hooks = cfg.get('default_hooks', {})
    if 'checkpoint' in hooks:
        hooks.checkpoint.interval = cfg.train_cfg.val_interval


def _stretch(scheduler: dict, factor: float, epochs: int) -> None:
    """Scale the epochs of a scheduler, clipped to the length of the training."""
    for key in ('begin', 'end', 'T_max'):
        if scheduler.get(key):
            scheduler[key] = min(epochs, max(1, round(scheduler[key] * factor)))
    if 'T_max' in scheduler:
        scheduler['T_max'] = max(1, scheduler['end'] - scheduler.get('begin', 0))
    if 'milestones' in scheduler:
        marks = [max(1, round(mark * factor)) for mark in scheduler['milestones']]
        scheduler['milestones'] = sorted(set(marks))


_SIZES = {
    'Mosaic': 'img_scale',
    'CachedMosaic': 'img_scale',
    'CachedMixUp': 'img_scale',
    'Resize': 'scale',
    'RandomResize': 'scale',
    'RandomCrop': 'crop_size',
    'Pad': 'size',
}
"""Transforms that take the image size, and the name of that argument."""

_AFFINE = ('RandomAffine', 'CenteredRandomAffine')


def set_image_scale(cfg: Config, scale: tuple[int, int]) -> None:
    """Set the image size of training and test pipelines, in place.

    Sizes that are a multiple of the image size stay that multiple.

    Args:
        cfg (Config): Config of a detector.
        scale (tuple[int, int]): Width and height in pixels. The objectness weight of a
            `YOLOv7Head` is scaled with the area, as in the published recipe.
    """
    # by identity: loaders may share a pipeline, and sizes are scaled in place
    transforms = list({id(t): (k, t) for k, t in _transforms(cfg._cfg_dict)}.values())
    sizes = [tuple(t[_SIZES[k]]) for k, t in transforms if _SIZES.get(k) in t]
    if not sizes:
        return
    before = mode(sizes)  # test-time augmentation uses other sizes too
    for kind, transform in transforms:
        key = _SIZES.get(kind)
        if key in transform:
            pairs = zip(transform[key], scale, before, strict=True)
            transform[key] = tuple(round(old * new / was) for old, new, was in pairs)
        elif kind in _AFFINE and any(transform.get('border', ())):
            transform['border'] = (-scale[0] // 2, -scale[1] // 2)
    # late fusion has one head per detector, and they may share a config
    models = (cfg.model, *cfg.model.get('detectors', {}).values())
    for head in {
        id(m.get('bbox_head')): m.get('bbox_head', {}) for m in models
    }.values():
        if 'obj_weight' in head:
            head.obj_weight *= (scale[0] * scale[1]) / (before[0] * before[1])


def _transforms(node: object) -> Iterator[tuple[str, dict]]:
    """Yield the transforms below `node` that take a size, with their bare type."""
    if isinstance(node, list | tuple):
        for child in node:
            yield from _transforms(child)
    elif isinstance(node, dict):
        kind = str(node.get('type', '')).rpartition('.')[2]
        if kind in _SIZES or kind in _AFFINE:
            yield kind, node
        for child in node.values():
            yield from _transforms(child)
