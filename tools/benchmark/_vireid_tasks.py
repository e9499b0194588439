"""Tasks of the studies of visible-infrared re-identification: people, crops, scratch.

`people`: synthetic people in the layout of SYSU-MM01. `crops`: people cut from frames
of street videos, one RGB and one infrared image each, seen at the same moment. An
identity is one box in one frame. The same person may recur in other frames of a scene,
so scenes are never divided between training and test. Within a scene of the test, the
gallery can hold the person of a query under another identity, which counts as wrong.
One right image per query: the numbers compare rows and are no benchmark.

Both start from ImageNet weights: from scratch, so few steps stay at chance. `scratch`,
of the study of TOPLight, has fewer synthetic people, more images of each, and starts
from random weights.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmir.data.layouts.reid import SYSU_MM01, PersonImage
from mmir.utils.errors import UserError
from mmir.utils.files import atomic_path, write_text

HEIGHT, WIDTH = 144, 72
WEIGHTS_FILE = 'mobilenetv2_mmpretrain.safetensors'
TRAIN_PEOPLE = 140  # of the crops
SCENE_GAP = 12  # largest step of the frame number inside a scene
KEPT_SHARE = 2 / 3  # of the training people, in the search
PEOPLE = dict(train=600, test=100, images=1)  # synthetic ones
SCRATCH = dict(train=120, test=40, images=4)  # those of the training from scratch
META = ('sample_idx', 'img_path', 'pid', 'cam_id', 'modality')
BOTH = (dict(name='ir2rgb', query='ir'), dict(name='rgb2ir', query='rgb'))

Images = tuple[list[PersonImage], list[PersonImage]]


@dataclass(frozen=True)
class Task:
    """Images, network and training of a task.

    Attributes:
        root: From the data folder and the folder for what is written to the folder that
            paths are relative to.
        images: From the root and a seed to training and test images.
        scenes: From the root to the scene of each identity. The people of a scene stay
            together when training people are held out.
        backbone: From the folder of weights to the config of the backbone.
        stem: Modules of the backbone that exist once per modality.
        channels: Channels of its last map.
        batch: Identities of a batch, and images of each in each modality.
        backbone_rate: Factor of the learning rate of the backbone.
        protocols: Protocols of the test.
        seeds: Default seeds.
        steps: Training steps of all rows.
        searched: Learning rates of the search.
        own_splits: Whether each seed has its own split, and so its own search. Else the
            search of the first seed counts for all.
        rate: Default learning rate, without a search.
    """

    root: Callable[[Path, Path], Path]
    images: Callable[[Path, int], Images]
    scenes: Callable[[Path], Mapping[int, int]]
    backbone: Callable[[Path], dict[str, Any]]
    stem: tuple[str, ...]
    channels: int
    batch: tuple[int, int]
    backbone_rate: float
    protocols: tuple[Any, ...]
    seeds: tuple[int, ...]
    steps: int
    searched: tuple[float, ...]
    own_splits: bool
    rate: float


def _people_root(data: Path, out: Path, counts: Mapping[str, int] = PEOPLE) -> Path:
    from mmir.testing.scenes.reid_layouts import write_reid_set

    size = (WIDTH, HEIGHT)
    return write_reid_set('SYSUMM01', out / 'people_images', size=size, **counts)


def _people_images(root: Path, seed: int) -> Images:
    """The split of the layout, for all seeds."""
    return SYSU_MM01.images(root, 'train'), SYSU_MM01.images(root, 'test')


def _people_scenes(root: Path) -> dict[int, int]:
    """Each synthetic person is a scene of their own."""
    return {image.pid: image.pid for image in SYSU_MM01.images(root, 'train')}


def scenes_of(frames: Sequence[str]) -> list[int]:
    """Number the scenes of frames.

    A new scene begins where day and night change, or where the frame number jumps by
    more than `SCENE_GAP`.

    Args:
        frames: Names such as `00279N.png` (N,): number, and N for night or D for day.

    Returns:
        list[int]: Scene of each frame (N,), from 0 in the order of the frame numbers.

    Raises:
        UserError: A name has another form.
    """
    keys = []
    for name in frames:
        match = re.fullmatch(r'(\d+)([DN])\.\w+', name)
        if match is None:
            raise UserError(
                f'index.csv: frame {name!r} must be a number, then N (night) or D '
                '(day), such as 00279N.png'
            )
        keys.append((int(match[1]), match[2]))
    found: dict[tuple[int, str], int] = {}
    scene, last = -1, None
    for number, light in sorted({*keys}):
        if last is None or light != last[1] or number - last[0] > SCENE_GAP:
            scene += 1
        found[number, light] = scene
        last = number, light
    return [found[key] for key in keys]


def _crop_scenes(root: Path) -> dict[int, int]:
    with (root / 'index.csv').open(newline='') as file:
        lines = [*csv.DictReader(file)]
    scenes = scenes_of([line['frame'] for line in lines])
    return {int(line['pid']): k for line, k in zip(lines, scenes, strict=True)}


def split_scenes(
    scenes: Mapping[int, int], size: int, seed: int
) -> tuple[set[int], set[int]]:
    """Split identities by whole scenes.

    Scenes are visited in random order; each one that still fits joins the first part.

    Args:
        scenes: Identity -> scene.
        size: Largest number of identities of the first part.
        seed: Chooses the order.

    Returns:
        tuple[set[int], set[int]]: Identities of the first part, and all others.
    """
    people: dict[int, list[int]] = {}
    for pid, scene in scenes.items():
        people.setdefault(scene, []).append(pid)
    groups, first = [*people.values()], set()
    for k in np.random.default_rng(seed).permutation(len(groups)):
        if len(first) + len(groups[k]) <= size:
            first.update(groups[k])
    return first, {*scenes} - first


def _crop_images(root: Path, seed: int) -> Images:
    """Split by scenes, another one for each seed."""
    parts = split_scenes(_crop_scenes(root), TRAIN_PEOPLE, seed)
    sets = [
        [
            PersonImage(f'{kind}/{pid:05d}.jpg', pid, cam, kind)
            for cam, kind in enumerate(('rgb', 'ir'), 1)
            for pid in sorted(part)
        ]
        for part in parts
    ]
    return sets[0], sets[1]


def held_out(
    images: Sequence[PersonImage], scenes: Mapping[int, int], seed: int
) -> Images:
    """Split training images: a third of the people takes the place of the test people.

    Args:
        images: Training images of a split.
        scenes: Identity -> scene; scenes are not divided.
        seed: Chooses the people.
    """
    own = {image.pid: scenes[image.pid] for image in images}
    kept, held = split_scenes(own, round(KEPT_SHARE * len(own)), seed)
    return (
        [image for image in images if image.pid in kept],
        [image for image in images if image.pid in held],
    )


def _mobilenet(weights: Path) -> dict[str, Any]:
    loads = dict(type='Pretrained', checkpoint=str(weights / WEIGHTS_FILE))
    return dict(type='mmpretrain.MobileNetV2', init_cfg=loads)


PEOPLE_TASK = Task(
    root=_people_root,
    images=_people_images,
    scenes=_people_scenes,
    backbone=_mobilenet,
    stem=('conv1',),
    channels=1280,
    batch=(8, 2),
    backbone_rate=1.0,
    protocols=('sysu_all_agw', BOTH[1]),
    seeds=(0, 1, 2),
    steps=400,
    searched=(0.001, 0.003, 0.01),
    own_splits=False,
    rate=0.01,
)
TASKS = {
    'people': PEOPLE_TASK,
    'crops': Task(
        root=lambda data, out: data / 'person_crops',
        images=_crop_images,
        scenes=_crop_scenes,
        backbone=_mobilenet,
        stem=('conv1',),
        channels=1280,
        batch=(16, 1),
        backbone_rate=0.1,
        protocols=BOTH,
        seeds=(0, 1, 2, 3, 4),
        steps=80,
        searched=(0.001, 0.003, 0.01, 0.03),
        own_splits=True,
        rate=0.03,
    ),
    'scratch': replace(
        PEOPLE_TASK,
        root=partial(_people_root, counts=SCRATCH),
        backbone=lambda weights: dict(type='mmpretrain.MobileNetV2'),
        steps=200,
        searched=(0.01, 0.03, 0.1),
        rate=0.03,
    ),
}


def datasets(
    task: Task, root: Path, lists: Path, seed: int, held: bool, caj: bool
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Configs of training and test images, and the number of training people.

    Args:
        task: The task.
        root: Folder that paths are relative to.
        lists: Folder for the lists of images.
        seed: Chooses the split, where there are several, and the held-out people.
        held: Whether held-out training people take the place of the test people.
        caj: Channel augmentation in training.
    """
    images = task.images(root, seed)
    if held:
        images = held_out(images[0], task.scenes(root), seed)
    configs = []
    for split, part in zip(('train', 'test'), images, strict=True):
        path = lists / f'{split}_{"held_" * held}{seed}.txt'
        lines = [' '.join(map(str, image)) for image in part]
        write_text('\n'.join(lines) + '\n', path)
        steps = pipeline(split == 'train', caj)
        kind = dict(type='mmir.PersonListDataset', pipeline=steps)
        configs.append(dict(kind, ann_file=str(path), data_root=str(root)))
    return configs[0], configs[1], len({image.pid for image in images[0]})


def pipeline(training: bool, caj: bool) -> list[dict[str, Any]]:
    """Pipeline of AGW, for smaller images."""
    load = dict(type='LoadImageFromFile', _scope_='mmir')
    resize = dict(
        type='mmpretrain.Resize',
        scale=(WIDTH, HEIGHT),
        backend='pillow',
        interpolation='lanczos',
    )
    pack = dict(type='mmpretrain.PackInputs', meta_keys=META)
    if not training:
        return [load, resize, pack]
    crop = dict(type='mmpretrain.RandomCrop', crop_size=(HEIGHT, WIDTH), padding=5)
    flip = dict(type='mmpretrain.RandomFlip', prob=0.5)
    augment = [dict(type='mmir.ChannelAugment')] if caj else []
    return [load, resize, crop, flip, *augment, pack]


@torch.no_grad()
def clip_features(
    weights: Path, root: Path, names: Sequence[str], cache: Path
) -> Tensor:
    """Image embeddings of CLIP ViT-B/16 (N, 512), computed once.

    Args:
        weights: Folder with the files of CLIP.
        root: Folder that names are relative to.
        names: Image files (N,).
        cache: File that the features are stored in, with what they are made of: both
            folders and the names. Features of anything else are computed again.
    """
    from _clip_rows import COLORS, backbone
    from mmengine.registry import MODELS, init_default_scope

    from mmir.data.images import read_image
    from mmir.utils.checkpoint import load_checkpoint, weights_of
    from mmir.visualization.color_maps import to_display

    source = dict(
        weights=str(weights.resolve()), root=str(root.resolve()), names=[*names]
    )
    if cache.is_file():
        stored = torch.load(cache, weights_only=True)
        if stored.get('source') == source:
            return stored['features']
    init_default_scope('mmpretrain')
    net = MODELS.build(backbone(weights, out_type='cls_token'))
    net.init_weights()
    net.eval()
    file = weights / 'clip_projection_mmpretrain_fp16.safetensors'
    project = weights_of(load_checkpoint(file), file)
    weight, bias = (project[f'fc.{name}'].float() for name in ('weight', 'bias'))
    mean, std = (torch.tensor(COLORS[key]).view(3, 1, 1) for key in COLORS)
    found = []
    for name in names:
        image = torch.from_numpy(to_display(read_image(root / name)))
        x = (image.permute(2, 0, 1).float() - mean) / std
        x = torch.nn.functional.interpolate(
            x[None], (224, 224), mode='bicubic', antialias=True
        )
        found.append(torch.nn.functional.linear(net(x)[-1], weight, bias))
    features = torch.cat(found)
    with atomic_path(cache) as path:
        torch.save(dict(source=source, features=features), path)
    return features
