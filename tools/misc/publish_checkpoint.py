"""Reduce a training checkpoint for publishing: publish_checkpoint.py SOURCE TARGET.

The result holds only the weights (the averaged ones if training kept an average) and
the class names. It loads without running code.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mmir.cli import cli
from mmir.utils.checkpoint import (
    load_checkpoint,
    save_checkpoint_atomic,
    sha256_of,
    weights_of,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='training checkpoint')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument('--half', action='store_true', help='store float16')
    args = parser.parse_args(argv)
    cli.check_checkpoint(args.source, 'source', False)
    checkpoint = load_checkpoint(args.source)
    state = weights_of(checkpoint, args.source)
    if args.half:
        state = {
            key: value.half() if value.dtype == torch.float32 else value
            for key, value in state.items()
        }
    meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
    classes = tuple(meta.get('classes', ()))
    save_checkpoint_atomic(
        dict(meta=dict(dataset_meta=dict(classes=classes)), state_dict=dict(state)),
        args.target,
    )
    size = Path(args.target).stat().st_size / 2**20
    print(f'{args.target}: {size:.1f} MiB, sha256 {sha256_of(args.target)}')


if __name__ == '__main__':
    sys.exit(cli.run(main))
