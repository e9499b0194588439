"""Keep kernels as factors: compress_weights.py SOURCE TARGET --rank 4.

The file gets smaller and the kernels are approximated; the network that reads it as
`factors://TARGET` is the plain dense one. `merge_factors.py` makes a dense file of it.
"""

import argparse
import sys
from pathlib import Path

from mmir.cli import cli
from mmir.layers import SPLITS
from mmir.layers.at_rest import factor_checkpoint


def rank(text: str) -> int | str:
    """A rank of the command line: an integer or `full`."""
    return text if text == 'full' else int(text)


def budget(text: str) -> int | float:
    """A budget of the command line: an integer, or a fraction below 1."""
    return float(text) if '.' in text else int(text)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument('source', help='dense checkpoint')
    result.add_argument('target', help='checkpoint to write')
    rule = result.add_mutually_exclusive_group(required=True)
    rule.add_argument('--rank', type=rank, help="rank of all kernels, or 'full'")
    rule.add_argument(
        '--alpha', type=float, help='part of the numbers of each kernel to keep'
    )
    rule.add_argument(
        '--energy', type=float, help='part of the squared norm of each kernel to keep'
    )
    rule.add_argument(
        '--budget',
        type=budget,
        help='numbers of all factors together, or a part of those of their kernels',
    )
    result.add_argument('--split', default='ts_dd', choices=list(SPLITS))
    result.add_argument(
        '--include', nargs='+', help='regular expressions of names; default all'
    )
    result.add_argument(
        '--exclude', nargs='*', help='likewise, to leave dense; default heads'
    )
    result.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load a checkpoint that can run code; only for files of a trusted source',
    )
    return result


def main() -> None:
    args = parser().parse_args()
    cli.check_checkpoint(args.source, 'source', args.trust_checkpoint)
    rules = {k: getattr(args, k) for k in ('alpha', 'energy', 'budget')}
    rules = {key: value for key, value in rules.items() if value is not None}
    try:
        report = factor_checkpoint(
            args.source,
            args.target,
            args.rank if args.rank is not None else rules,
            args.split,
            trust=args.trust_checkpoint,
            include=args.include,
            exclude=args.exclude,
        )
    except ValueError as error:
        raise cli.UserError(str(error)) from error
    sizes = [Path(path).stat().st_size / 1e6 for path in (args.source, args.target)]
    print(f'{args.target}: {report}\n{sizes[0]:.1f} MB -> {sizes[1]:.1f} MB')


if __name__ == '__main__':
    sys.exit(cli.run(main))
