"""What the converters of released detectors share: reading, measuring, reporting."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmir.cli.cli import check_checkpoint, load_config
from mmir.data.images import list_images
from mmir.utils.errors import UserError
from mmir.utils.shipped import resource

if TYPE_CHECKING:
    from mmir.det.yolo.released import Converted


def parser(description: str, sizes: str) -> argparse.ArgumentParser:
    """Create the argument parser with the arguments all converters have.

    Args:
        description (str): First line of the help.
        sizes (str): Examples of sizes, for the help.
    """
    result = argparse.ArgumentParser(description=description)
    result.add_argument('source', help='checkpoint to read')
    result.add_argument('target', help='checkpoint to write')
    result.add_argument(
        '--arch', default='auto', help=f'size ({sizes}); auto: from the tensors'
    )
    return result


def read(args: argparse.Namespace, convert: Callable[..., 'Converted']) -> 'Converted':
    """Read and convert the source, without running any code in it.

    Args:
        args (Namespace): Arguments from a parser of :func:`parser`.
        convert (callable): Converts a state dict to a size (`arch`).

    Returns:
        Converted: What `convert` returns.

    Raises:
        UserError: The file is missing or unreadable, or holds another network.
    """
    # no code of the file is run, so it need not be trusted
    check_checkpoint(args.source, 'source', trusted=True)
    from mmir.det.yolo.released import read_converted

    try:
        return read_converted(args.source, lambda s: convert(s, args.arch))
    except ValueError as error:
        raise UserError(str(error)) from error


def measured(
    found: 'Converted', config: str, paths: Sequence[str], size: int
) -> 'Converted':
    """Measure the batch norms of a converted checkpoint on images.

    Args:
        found (Converted): The checkpoint.
        config (str): Shipped config of the model, of the size of the checkpoint.
        paths (Sequence[str]): Image files and folders of images.
        size (int): Longer side of the images in pixels, before padding.

    Returns:
        Converted: The same network with measured statistics.

    Raises:
        UserError: The size is too small, a path does not exist, or the norms cannot be
            measured.
        ImageReadError: An image cannot be read.
    """
    from mmir.det.yolo.norms import measure_norms_

    if size < 32:
        raise UserError(f'--size {size}: must be at least 32 pixels')
    files = _image_files(paths)
    init_default_scope('mmdet')
    cfg = load_config(str(resource(config))).model
    cfg.bbox_head.head_module.num_classes = found.num_classes
    model = MODELS.build(cfg)
    model.load_state_dict(found.state_dict)
    try:
        count = measure_norms_(model, _batches(model, files, size))
    except ValueError as error:
        raise UserError(f'--images: {error}') from error
    print(f'batch norms measured on {count} images')
    return replace(found, state_dict=model.state_dict(), norms='measured')


def write(found: 'Converted', target: str, family: str) -> None:
    """Write the result, and print what it is and how to use it.

    Args:
        found (Converted): The checkpoint.
        target (str): File to write.
        family (str): Name of the network.
    """
    from mmir.det.yolo.released import IDENTITY_NOTE, write_converted

    write_converted(found, target)
    print(
        f'{target}: {family} {found.arch!r} of {found.num_classes} classes from the '
        f'{found.source} names, {len(found.state_dict)} tensors'
    )
    if not found.own_anchors:
        print(
            'note: the source does not store anchors, so those of the released models '
            f'were written: {found.anchors}'
        )
    if found.norms == 'identity':
        print(f'WARNING: {IDENTITY_NOTE}')


def _image_files(paths: Sequence[str]) -> list[str]:
    """Return the given image files, and those of the given folders."""
    files: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            try:
                files += [str(path / name) for name in list_images(path)]
            except FileNotFoundError as error:
                raise UserError(f'--images: {error}') from error
        elif path.is_file():
            files.append(str(path))
        else:
            raise UserError(f'--images: no file or folder {path}')
    return files


def _batches(model: nn.Module, files: Sequence[str], size: int) -> Iterator[Tensor]:
    """Yield one preprocessed image at a time, as the test pipeline of YOLO gives it."""
    steps: list[dict[str, Any]] = [
        dict(type='mmir.LoadImageFromFile'),
        dict(type='mmdet.Resize', scale=(size, size), keep_ratio=True),
        dict(type='mmir.PadToStride', divisor=32),
        dict(type='mmdet.PackDetInputs', meta_keys=()),
    ]
    pipeline = Compose(steps)
    for file in files:
        data = pseudo_collate([pipeline(dict(img_path=file))])
        yield model.data_preprocessor(data, training=False)['inputs']
