"""Merge the adapters of a checkpoint: merge_adapters.py SOURCE TARGET.

The result is a checkpoint of the plain network, for deployment or further training.
"""

import argparse
import sys
from importlib import import_module

from mmir.adapters import merge_checkpoint
from mmir.cli import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint with adapters or factors')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load a checkpoint that can run code; only for files you trust',
    )
    parser.add_argument('--split', help='split of factors for which the file has none')
    parser.add_argument(
        '--import',
        dest='modules',
        action='append',
        default=[],
        metavar='MODULE',
        help='module with adapter layers of your own, as in custom_imports; can be '
        'repeated',
    )
    args = parser.parse_args()
    for module in args.modules:
        try:
            import_module(module)
        except ImportError as error:
            raise cli.UserError(f'--import {module}: {error}') from error
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
