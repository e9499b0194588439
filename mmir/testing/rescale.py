"""Adapt a training config to another number of epochs, batch size or image size.

A config repeats the same quantity in several places (the number of epochs in the loop,
in two schedulers and in a hook). These functions change all of them together.
"""

import math
import re
from collections.abc import Iterable, Iterator
from statistics import mode

from mmengine.config import Config


def set_schedule(cfg: Config, epochs: int, batch_size: int) -> None:
    """Set the length of the training and the batch size, in place.

    Validates and saves five times. The warm-up lasts at least one epoch, or one
    iteration if the loop counts those.

    Args:
        cfg (Config): The config.
        epochs (int): Number of epochs, or of iterations if the loop counts those.
        batch_size (int): Images per batch.
    """
    scale_training(cfg, epochs)
    drop_late_schedulers(cfg)
    cfg.train_cfg.val_interval = max(1, epochs // 5)
    cfg.train_dataloader.batch_size = batch_size
    hooks = cfg.get('default_hooks', {})
    if 'checkpoint' in hooks:
        hooks.checkpoint.interval = cfg.train_cfg.val_interval


_LENGTHS = ('max_epochs', 'max_iters')
_LOOP = ('val_interval', 'val_begin')
_SCHEDULER = ('begin', 'end', 'T_max', 'total_steps', 'step_size')
_MARKS = ('milestones', 'periods')
_HOOK = ('num_last_epochs', 'switch_epoch', 'begin_epoch', 'begin_iter', 'save_begin')
_MAY_BE_ZERO = ('num_last_epochs', 'begin_epoch', 'begin_iter', 'save_begin')
_UNIT = re.compile(r'epochs?$|^epoch_|iters?$|^iter_|epoch_num')


def scale_training(cfg: Config, length: int) -> tuple[list[str], list[str]]:
    """Set the length of the training and scale what depends on it, in place.

    Scaled in proportion are the schedulers, the intervals of validation and
    checkpoints, and hooks that switch at an epoch. Schedulers that count iterations
    while the loop counts epochs keep their fraction of the training.

    Args:
        cfg (Config): Config whose `train_cfg` has `max_epochs` or `max_iters`.
        length (int): New number of epochs or iterations.

    Returns:
        tuple[list[str], list[str]]: What changed, as 'key: former -> new', and the keys
        of hooks that seem to count epochs or iterations and were left alone.
    """
    unit = next(key for key in _LENGTHS if cfg.train_cfg.get(key))
    scale = _Scale(length / cfg.train_cfg[unit], length)
    cfg.train_cfg[unit] = length
    if unit in cfg:
        cfg[unit] = length
    scale.keys(cfg.train_cfg, _LOOP, 'train_cfg', clip=True)
    stages = cfg.train_cfg.get('dynamic_intervals')
    if stages:
        stages = [(scale.number(mark), every) for mark, every in stages]
        scale.put(cfg.train_cfg, 'dynamic_intervals', stages, 'train_cfg')
    for where, scheduler in _schedulers(cfg.get('param_scheduler'), 'param_scheduler'):
        own = scheduler.get('by_epoch', True) == (unit == 'max_epochs')
        span = scheduler.get('end', 0) - scheduler.get('begin', 0)
        whole = 'T_max' in scheduler and scheduler['T_max'] == span
        names = [key for key in _SCHEDULER if not (whole and key == 'T_max')]
        scale.keys(scheduler, names, where, clip=own)
        scale.marks(scheduler, where)
        if whole:
            span = scheduler['end'] - scheduler.get('begin', 0)
            scale.put(scheduler, 'T_max', max(1, span), where)
    # CSK-Net counts the iterations before its contrastive loss
    contrast = (cfg.get('model') or {}).get('contrast')
    if unit == 'max_iters' and contrast:
        scale.keys(contrast, ('warmup',), 'model.contrast')
    for where, hook in _hooks(cfg):
        saves = str(hook.get('type')).endswith('CheckpointHook')
        scale.keys(hook, (*_HOOK, 'interval') if saves else _HOOK, where)
        scale.left += [
            f'{where}.{key}'
            for key, value in hook.items()
            if key not in (*_HOOK, 'by_epoch')
            and _UNIT.search(key)
            and not isinstance(value, str)
        ]
    return scale.changed, scale.left


def drop_late_schedulers(cfg: Config) -> None:
    """Remove the schedulers that would start after the last epoch, in place.

    Args:
        cfg (Config): The config.
    """
    length = (cfg.get('train_cfg') or {}).get('max_epochs')
    if length and isinstance(cfg.get('param_scheduler'), list):
        cfg.param_scheduler = [
            s
            for s in cfg.param_scheduler
            if not s.get('by_epoch', True) or s.get('begin', 0) < length
        ]


class _Scale:
    """Scales numbers of a config and records what changed."""

    def __init__(self, factor: float, length: int) -> None:
        self.factor, self.length = factor, length
        self.changed: list[str] = []
        self.left: list[str] = []

    def number(self, value: float, clip: bool = False, least: int = 1) -> int:
        """Scale a number of epochs or iterations."""
        new = max(least, round(value * self.factor))
        return min(self.length, new) if clip else new

    def keys(
        self, node: dict, names: Iterable[str], where: str, clip: bool = False
    ) -> None:
        """Scale some keys of a dictionary that are set, in place."""
        for name in names:
            value = node.get(name)
            if isinstance(value, int | float) and 0 < value < math.inf:
                least = int(name not in _MAY_BE_ZERO)
                self.put(node, name, self.number(value, clip, least), where)

    def marks(self, node: dict, where: str) -> None:
        """Scale lists of epochs or iterations, in place."""
        for name in _MARKS:
            if node.get(name):
                marks = sorted({self.number(mark) for mark in node[name]})
                self.put(node, name, marks, where)

    def put(self, node: dict, name: str, new: object, where: str) -> None:
        """Replace a value and record it."""
        if node[name] != new:
            self.changed.append(f'{where}.{name}: {node[name]} -> {new}')
        node[name] = new


def _schedulers(node: object, where: str) -> Iterator[tuple[str, dict]]:
    """Yield the schedulers of a config, which may be one, a list, or lists by name."""
    if isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _schedulers(child, f'{where}.{index}')
    elif isinstance(node, dict) and 'type' in node:
        yield where, node
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _schedulers(child, f'{where}.{name}')


def _hooks(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield the hooks of a config with their keys."""
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if hook:
            yield f'default_hooks.{name}', hook
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        yield f'custom_hooks.{index}', hook


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

_CHOICES = {'RandomChoiceResize': 'scales'}
"""Transforms that take several image sizes, and the name of that argument."""

_AFFINE = ('RandomAffine', 'CenteredRandomAffine')


def set_image_scale(cfg: Config, scale: tuple[int, int]) -> None:
    """Set the image size of training and test pipelines, in place.

    Sizes that are a multiple of the image size stay that multiple.

    Args:
        cfg (Config): Config of a detector.
        scale (tuple[int, int]): Width and height in pixels. The objectness weight of a
            `YOLOHead` is scaled with the area, as in the published recipe.
    """
    # by identity: loaders may share a pipeline, and sizes are scaled in place
    transforms = list({id(t): (k, t) for k, t in _transforms(cfg._cfg_dict)}.values())
    sizes = [(k, tuple(t[_SIZES[k]])) for k, t in transforms if _SIZES.get(k) in t]
    if not sizes:
        return
    # crops may be smaller, and test-time augmentation uses other sizes too
    before = mode([s for k, s in sizes if k != 'RandomCrop'] or [s for _, s in sizes])

    def scaled(size: Iterable[int]) -> tuple[int, ...]:
        """Scale a pair of sizes."""
        pairs = zip(size, scale, before, strict=True)
        return tuple(round(old * new / was) for old, new, was in pairs)

    for kind, transform in transforms:
        key = _SIZES.get(kind)
        if key in transform:
            transform[key] = scaled(transform[key])
        elif kind in _CHOICES:
            key = _CHOICES[kind]
            transform[key] = [scaled(size) for size in transform[key]]
        elif kind in _AFFINE and any(transform.get('border', ())):
            transform['border'] = (-scale[0] // 2, -scale[1] // 2)
    # late fusion has one head per detector, and they may share a config
    models = (cfg.model, *cfg.model.get('detectors', {}).values())
    for head in {
        id(m.get('bbox_head')): m.get('bbox_head', {}) for m in models
    }.values():
        if 'obj_weight' in head:
            head.obj_weight *= (scale[0] * scale[1]) / (before[0] * before[1])


def set_crop_size(cfg: Config, width: int) -> None:
    """Set the width of the network input of a segmentation config, in place.

    All other sizes keep their proportion to it: those of the transforms, of the sliding
    window, and the image size a transformer is built for.

    Args:
        cfg (Config): Config of a segmentor whose data preprocessor has a `size`.
        width (int): New width in pixels.
    """
    model = cfg.model
    factor = width / model.data_preprocessor.size[1]

    def scaled(size: Iterable[int]) -> tuple[int, ...]:
        """Scale a pair of sizes."""
        return tuple(round(number * factor) for number in size)

    model.data_preprocessor.size = scaled(model.data_preprocessor.size)
    transforms = {id(t): (k, t) for k, t in _transforms(cfg._cfg_dict)}.values()
    for kind, transform in transforms:
        key = _SIZES.get(kind)
        if key in transform:
            transform[key] = scaled(transform[key])
    for key in ('crop_size', 'stride'):
        if key in model.get('test_cfg', {}):
            model.test_cfg[key] = scaled(model.test_cfg[key])
    for node in (model.backbone, model.backbone.get('backbone', {})):
        if isinstance(node.get('img_size'), int):
            node.img_size = round(node.img_size * factor)


def _transforms(node: object) -> Iterator[tuple[str, dict]]:
    """Yield the transforms below `node` that take a size, with their bare type."""
    if isinstance(node, list | tuple):
        for child in node:
            yield from _transforms(child)
    elif isinstance(node, dict):
        kind = str(node.get('type', '')).rpartition('.')[2]
        if kind in _SIZES or kind in _CHOICES or kind in _AFFINE:
            yield kind, node
        for child in node.values():
            yield from _transforms(child)
