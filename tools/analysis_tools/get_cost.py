"""Parameters and multiplications of re-identification: get_cost.py CONFIG [CONFIG ...].

Prints a Markdown table, in millions. `MACs` counts convolutions and matrix products of
one image, which goes through one stem. `paper` counts as the table of TOPLight seems
to: both stems, the norms with 2 operations per element, and the classifier of training.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmir.cli import cli
from mmir.evaluation.tables import markdown

HEAD = ('config', 'size', 'parameters', 'MACs', 'paper')


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', help=cli.CONFIG_HELP)
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='height and width of the image; default: those of the config',
    )
    args = parser.parse_args(argv)
    if args.shape and min(args.shape) < 1:
        raise cli.UserError('--shape: give two positive numbers')
    rows = [row_of(path, args.shape) for path in args.configs]
    print(markdown(HEAD, rows))


def row_of(path: str, shape: Sequence[int] | None) -> list[str]:
    """Measure the model of a config; returns a row of the table."""
    from mmengine.registry import MODELS, init_default_scope

    from mmir.reid import vireid_cost

    cfg = cli.load_config(path, None)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    size = shape or (cfg.get('height'), cfg.get('width'))
    if None in size:
        raise cli.UserError(f'{path} has no height and width: give --shape')
    cost = vireid_cost(MODELS.build(cfg.model), *size)
    counts = (cost.parameters, cost.image, cost.paper)
    text = [f'{count / 1e6:.2f}' for count in counts]
    return [Path(path).stem, f'{size[0]}x{size[1]}', *text]


if __name__ == '__main__':
    sys.exit(cli.run(main))
