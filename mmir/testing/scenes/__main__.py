"""Render street scenes into a folder: `python -m mmir.testing.scenes OUT`."""

import argparse

from mmir.data.layouts.reid import REID_SETS

from .disk import write_drones, write_flir
from .reid_layouts import write_reid_set
from .street import FAR


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the scenes.

    Args:
        arguments: Command-line arguments. Default: `sys.argv[1:]`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m mmir.testing.scenes',
        description='Render synthetic RGB and thermal images with labels.',
    )
    parser.add_argument('out', help='output folder')
    parser.add_argument(
        '--train', type=int, default=60, help='number of training images'
    )
    parser.add_argument(
        '--val', type=int, default=30, help='number of validation images'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--size', type=int, nargs=2, metavar=('WIDTH', 'HEIGHT'))
    parser.add_argument(
        '--far', type=float, default=FAR, help='largest object distance in m'
    )
    parser.add_argument(
        '--light', choices=('day', 'night'), help='only day or only night (streets)'
    )
    parser.add_argument(
        '--drones', choices=('rgb', 'ir'), help='flying targets instead of streets'
    )
    parser.add_argument(
        '--people',
        choices=sorted(REID_SETS),
        help='people in the layout of a re-identification dataset; --train and --val '
        'count identities',
    )
    args = parser.parse_args(arguments)
    size = tuple(args.size) if args.size else None
    try:
        if args.people:
            out = write_reid_set(
                args.people, args.out, args.train, args.val, seed=args.seed, size=size
            )
        elif args.drones:
            out = write_drones(
                args.out, args.drones, args.train, args.val, args.seed, size
            )
        else:
            size = size or (640, 512)
            night = args.light and args.light == 'night'
            out = write_flir(
                args.out, args.train, args.val, args.seed, size, night, far=args.far
            )
    except OSError as error:
        parser.exit(1, f'{error}\n')
    unit = 'identities' if args.people else 'scenes'
    print(f'{out}: {args.train} + {args.val} synthetic {unit}')


if __name__ == '__main__':
    main()
