"""Average both paths of a TOPLight pretraining: uniform_soup.py SOURCE TARGET.

The result loads into `mmir.TwoStemBackbone` by `init_cfg`. Blocks 2 to 4 are averages,
block 1 stays a stem per modality. The hook of the pretraining configs does the same and
measures the statistics of norms besides, which takes data.
"""

import argparse
import sys
from collections.abc import Sequence

from mmir.cli import cli
from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic, weights_of


def main(argv: Sequence[str] | None = None) -> None:
    from mmir.reid import uniform_soup

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint of the pretraining')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--network', required=True, help="as in the config, such as 'mobilenetv3_large'"
    )
    parser.add_argument(
        '--variance',
        choices=['total', 'mean'],
        default='total',
        help='variances of batch norms: of the data of both paths together (default), '
        'or the plain mean',
    )
    args = parser.parse_args(argv)
    cli.check_checkpoint(args.source, 'source', False)
    state = weights_of(load_checkpoint(args.source), args.source)
    found, report = uniform_soup(state, args.network, args.variance)
    meta = dict(soup=report._asdict(), recalibrated=False)
    save_checkpoint_atomic(dict(meta=meta, state_dict=found), args.target)
    print(report)
    print(f'{args.target}: {len(found)} tensors')


if __name__ == '__main__':
    sys.exit(cli.run(main))
