"""Fit a training config to another number of epochs, image size or data set size.

A config writes the same quantity in several places (the epochs in the loop, in two
schedulers and in a hook); these functions change all of them together.
"""

from mmengine.config import Config


def set_schedule(cfg: Config, epochs: int, batch_size: int) -> None:
    """Set the length of the training, in place.

    Schedulers and hooks that count epochs are stretched in proportion; the warm-up
    lasts at least one epoch.

    Args:
        cfg (Config): Config with an epoch-based loop.
        epochs (int): Epochs to train.
        batch_size (int): Images a batch.
    """
    factor = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = max(1, epochs // 5)
    cfg.train_dataloader.batch_size = batch_size
    for scheduler in cfg.param_scheduler:
        _stretch(scheduler, factor, epochs)
    # what would begin with the last epoch over has nothing to do
    cfg.param_scheduler = [s for s in cfg.param_scheduler if s.get('begin', 0) < epochs]
    for hook in cfg.get('custom_hooks', []):
        if 'num_last_epochs' in hook:
            hook.num_last_epochs = max(1, round(hook.num_last_epochs * factor))
    hooks = cfg.get('default_hooks', {})
    if 'checkpoint' in hooks:
        hooks.checkpoint.interval = cfg.train_cfg.val_interval


def _stretch(scheduler: dict, factor: float, epochs: int) -> None:
    """Scale the epochs of a scheduler; a start or end inside stays inside."""
    for key in ('begin', 'end', 'T_max'):
        if scheduler.get(key):
            scheduler[key] = min(epochs, max(1, round(scheduler[key] * factor)))
    if 'T_max' in scheduler:
        scheduler['T_max'] = max(1, scheduler['end'] - scheduler.get('begin', 0))


def set_image_scale(cfg: Config, scale: tuple[int, int]) -> None:
    """Set the image size of training and test pipelines, in place.

    Args:
        cfg (Config): Config of a detector.
        scale (tuple[int, int]): Width and height in pixels; the objectness weight of a
            `YOLOv7Head` goes with its square, as in the published recipe.
    """
    before = _visit(cfg._cfg_dict, scale)
    head = cfg.model.get('bbox_head', {})
    if before and 'obj_weight' in head:
        head.obj_weight *= (scale[0] * scale[1]) / (before[0] * before[1])


def _visit(node: object, scale: tuple[int, int]) -> tuple[int, int] | None:
    """Set the size in every transform below `node`; return the former one."""
    if isinstance(node, (list, tuple)):
        found = [_visit(child, scale) for child in node]
        return next((f for f in found if f), None)
    if not isinstance(node, dict):
        return None
    keys = {
        'Mosaic': 'img_scale',
        'CachedMixUp': 'img_scale',
        'Resize': 'scale',
        'Pad': 'size',
    }
    kind = str(node.get('type', '')).rpartition('.')[2]
    if kind == 'RandomAffine' and any(node.get('border', ())):
        node['border'] = (-scale[0] // 2, -scale[1] // 2)
    if kind in keys and keys[kind] in node:
        before = tuple(node[keys[kind]])
        node[keys[kind]] = scale
        return before
    found = [_visit(child, scale) for child in node.values()]
    return next((f for f in found if f), None)
