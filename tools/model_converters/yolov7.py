"""Convert a YOLOv7 of the official code or of MMYOLO: yolov7.py SOURCE TARGET.

Official files contain pickled modules. They are read without running any code, and a
file that needs to run code is rejected. The result is a dense checkpoint for
`load_from`; a factorized model factorizes it on load.
"""

import argparse
import sys

from mmir.cli import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint to read')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--arch', default='auto', help='size (tiny, l, ...); auto: from tensor names'
    )
    args = parser.parse_args()
    # no code of the file is run, so it need not be trusted
    cli.check_checkpoint(args.source, 'source', trusted=True)
    from mmir.det.yolov7.convert import convert_checkpoint

    try:
        found = convert_checkpoint(args.source, args.target, args.arch)
    except ValueError as error:
        raise cli.UserError(str(error)) from error
    print(
        f'{args.target}: YOLOv7 {found.arch!r} of {found.num_classes} classes from the '
        f'{found.source} names, {len(found.state_dict)} tensors'
    )
    if not found.own_anchors:
        print(
            'note: MMYOLO files do not store anchors, so those of the released models '
            f'were written: {found.anchors}'
        )


if __name__ == '__main__':
    sys.exit(cli.run(main))
