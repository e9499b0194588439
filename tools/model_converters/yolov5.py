"""Convert a YOLOv5 of releases 6.0 to 7.0: yolov5.py SOURCE TARGET.

The source is an official file (.pt), read without running the code it pickles, or a
safetensors file with the same names. Exported weights have their batch norms folded
and cannot be trained as they are; with `--images` the norms are measured again.
"""

import sys

import _conversion as conversion

from mmir.cli import cli


def main() -> None:
    parser = conversion.parser(__doc__.splitlines()[0], 'n, s, m, l, x')
    parser.add_argument(
        '--images',
        nargs='+',
        default=(),
        metavar='PATH',
        help='images or folders like those of the training, to measure the batch norms '
        'on; predictions stay the same',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=640,
        help='longer side of these images in pixels (default: 640)',
    )
    args = parser.parse_args()
    from mmir.det.yolov5.convert import convert

    found = conversion.read(args, convert)
    if args.images:
        config = f'configs/_base_/models/yolov5_{found.arch}.py'
        found = conversion.measured(found, config, args.images, args.size)
    conversion.write(found, args.target, 'YOLOv5')


if __name__ == '__main__':
    sys.exit(cli.run(main))
