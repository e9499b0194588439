"""Merge the factors and deltas of a checkpoint: merge_factors.py SOURCE TARGET.

The result is a checkpoint of the plain dense network, for deployment or as the start of
a dense baseline.
"""

import argparse
import sys

from mmir.cli import cli
from mmir.layers import merge_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint with factors')
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
            args.source, args.target, args.trust_checkpoint, args.split
        )
    except ValueError as error:
        raise cli.UserError(str(error)) from error
    print(f'{args.target}: {count} layers merged')


if __name__ == '__main__':
    sys.exit(cli.run(main))
