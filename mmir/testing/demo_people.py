"""Synthetic people for the `--demo` of configs of re-identification."""

from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmir.data.layouts.reid import REID_SETS
from mmir.testing.rescale import set_image_scale
from mmir.testing.scenes.reid_layouts import write_reid_set
from mmir.testing.small_convolutional import BASE
from mmir.utils.files import write_text

TRAIN, TEST, IMAGES = 12, 8, 3
"""Identities for training and testing, and images of each per camera."""

IDS_PER_BATCH, IMAGES_PER_ID = 4, 2
WIDTH = 64
"""Width of the images in pixels; the height follows."""

DROPS = 0.7, 0.9
"""Shares of the training after which the learning rate drops."""


def _people(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the training and of the test dataset."""
    write_reid_set(name, root, TRAIN, TEST, IMAGES)
    return dict(data_root=str(root)), dict(data_root=str(root))


def _faces(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of datasets of faces: people stand in for them."""
    write_reid_set('SYSUMM01', root, TRAIN, TEST, IMAGES)
    layout, arguments = REID_SETS['SYSUMM01'], []
    lists = root.parent / f'{root.name}_lists'
    for split in ('train', 'test'):
        images, named = layout.images(root, split), {}
        for key, modality in (('vis', 'rgb'), ('nir', 'ir')):
            chosen = [image for image in images if image.modality == modality]
            lines = [f'{image.path} {image.pid}' for image in chosen]
            path = lists / f'{split}_{key}.txt'
            write_text('\n'.join([*lines, '']), path)
            named[key] = str(path.resolve())
        arguments.append(dict(data_root=str(root), **named))
    return tuple(arguments)


PEOPLE = {
    **{name: partial(_people, name=name) for name in ('SYSUMM01', 'RegDB', 'LLCM')},
    'NIRVISFace': _faces,
}
"""Name of `demo.data` in a config -> what renders the people."""


def shrink_people_(cfg: Config) -> None:
    """Make a config of re-identification small, in place.

    The images get a width of 64 px, a ResNet 8 channels in its first block, a batch 4
    identities, and there are no pretrained weights. Without those, all layers learn at
    one rate, which drops later. Other networks are small already, see `shrink`.

    Args:
        cfg (Config): Config whose backbone is a `TwoStemBackbone`, and whose sampler is
            a `CrossModalIdentitySampler`.
    """
    sampler = cfg.train_dataloader.sampler
    if 'ids_per_batch' in sampler:
        sampler.update(ids_per_batch=IDS_PER_BATCH, images_per_id=IMAGES_PER_ID)
    cfg.train_dataloader.batch_size = 2 * IDS_PER_BATCH * IMAGES_PER_ID
    set_image_scale(cfg, (WIDTH, round(WIDTH * cfg.height / cfg.width)))
    backbone, head = cfg.model.backbone.backbone, cfg.model.head
    if 'depth' in backbone:  # others are small already
        _shrink_resnet_(cfg.model)
    for loss in head.get('metric', {}).values():
        if 'in_channels' in loss:
            loss.in_channels = head.in_channels
    cfg.optim_wrapper.pop('paramwise_cfg', None)
    for scheduler in cfg.param_scheduler:
        if 'milestones' in scheduler:
            length = cfg.train_cfg.max_epochs
            scheduler.milestones = [round(share * length) for share in DROPS]


def _shrink_resnet_(model: ConfigDict) -> None:
    """Make the ResNet of a model narrow, and what follows it, in place."""
    backbone, head = model.backbone.backbone, model.head
    backbone.update(base_channels=BASE, stem_channels=BASE, init_cfg=None)
    channels = 32 * BASE  # of a deep ResNet
    if 'branch_channels' in head:  # TMPA fuses several features
        maps = head.in_channels // head.branch_channels
        head.update(in_channels=maps * channels, branch_channels=channels)
        model.backbone.transfer.update(in_channels=channels, channels=8 * BASE)
    else:
        head.in_channels = channels
