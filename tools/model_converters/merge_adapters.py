"""Merge the adapters of a checkpoint: merge_adapters.py SOURCE TARGET.

The result is a checkpoint of the plain network, for deployment or as the start of
another training.
"""

import argparse
import sys

from mmir.adapters import merge_checkpoint
from mmir.cli import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint with adapters or factors')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load a checkpoint that can run code; only for files of a trusted source',
    )
    parser.add_argument('--split', help='of the factors, where the file does not tell')
    args = parser.parse_args()
    cli.check_checkpoint(args.source, 'source', args.trust_checkpoint)
    try:
        count = merge_checkpoint(
            args.source, args.target, args.trust_checkpoint, split=args.split
        )
    except ValueError as error:
        raise cli.UserError(str(error)) from error
    print(f'{args.target}: {count} layers merged')


if __name__ == '__main__':
    sys.exit(cli.run(main))
