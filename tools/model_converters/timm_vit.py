"""Convert a timm vision transformer: timm_vit.py SOURCE TARGET --family vit|eva02|swin.

The source is a safetensors file or one of torch.save, read without running code. The
result loads into the backbone of mmpretrain by `init_cfg`; that of a Swin also into
those of mmdet and mmseg.
"""

import argparse
import sys

from mmir.cli import cli
from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic, weights_of
from mmir.utils.timm_vit import FAMILIES, resize_patches

NOTES = {
    'vit': 'set the eps of norm_cfg and the activation as in timm; CLIP has eps=1e-5, '
    'pre_norm=True and often QuickGELU',
    'eva02': 'set norm_cfg=dict(type="LN", eps=1e-6), which is not the default, and '
    'run images of img_size only: for others its rotary positions are wrong',
    'swin': 'for mmdet and mmseg give --prefix backbone.',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint to read')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument('--family', choices=FAMILIES, required=True)
    parser.add_argument(
        '--prefix', default='', help="beginning of all names, such as 'backbone.'"
    )
    parser.add_argument(
        '--grid',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        help='patches of the images, for the rotary positions of EVA-02; default: as '
        'in the source',
    )
    parser.add_argument(
        '--patch',
        type=int,
        metavar='PX',
        help='side of the patches, for example 16 for EVA-02-L with 14; default: '
        'that of the source',
    )
    args = parser.parse_args()
    if args.grid and (args.family != 'eva02' or min(args.grid) < 1):
        raise cli.UserError('--grid: two positive numbers, for EVA-02 only')
    if args.patch is not None and (args.family == 'swin' or args.patch < 1):
        raise cli.UserError('--patch: a positive number, not for Swin')
    cli.check_checkpoint(args.source, 'source', trusted=False)
    weights = weights_of(load_checkpoint(args.source), args.source)
    options = dict(grid=tuple(args.grid)) if args.grid else {}
    try:
        found = FAMILIES[args.family](weights, **options)
    except ValueError as error:
        raise cli.UserError(f'{args.source}: {error}') from error
    if args.patch is not None:
        found = resize_patches(found, args.patch)
    state = {args.prefix + key: value for key, value in found.items()}
    meta = dict(source='timm', family=args.family)
    save_checkpoint_atomic(dict(meta=meta, state_dict=state), args.target)
    print(f'{args.target}: {args.family}, {len(state)} tensors')
    print(f'note: {NOTES[args.family]}')


if __name__ == '__main__':
    sys.exit(cli.run(main))
