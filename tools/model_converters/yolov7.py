"""Convert a YOLOv7 of the official code or of MMYOLO: yolov7.py SOURCE TARGET.

Official files contain pickled modules. They are read without running any code, and a
file that needs to run code is rejected. The result is a dense checkpoint for
`load_from`; a factorized model factorizes it on load.
"""

import sys

import _conversion as conversion

from mmir.cli import cli


def main() -> None:
    args = conversion.parser(__doc__.splitlines()[0], 'tiny, l, ...').parse_args()
    from mmir.det.yolov7.convert import convert

    conversion.write(conversion.read(args, convert), args.target, 'YOLOv7')


if __name__ == '__main__':
    sys.exit(cli.run(main))
