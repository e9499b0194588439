"""Keep the classes of a config: keep_classes.py CONFIG SOURCE TARGET.

A checkpoint of 80 COCO classes becomes one that detects person, bicycle and car as
before, ready for `load_from` of the config.
"""

import argparse
import sys

from mmengine.registry import init_default_scope

from mmir.cli import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the model with fewer classes')
    parser.add_argument('source', help='checkpoint to read')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--known',
        nargs='+',
        metavar='CLASS',
        help='classes of SOURCE in order; default: those in its metadata, or of COCO',
    )
    args = parser.parse_args()
    cli.check_checkpoint(args.source, 'source', trusted=False)
    cfg = cli.load_config(args.config)
    if 'classes' not in cfg:
        raise cli.UserError(f'{args.config} has no variable `classes`')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    from mmir.det.class_rows import keep_classes_in_file

    reduced = keep_classes_in_file(
        cfg.model, args.source, args.target, cfg.classes, args.known
    )
    print(
        f'{args.target}: {len(cfg.classes)} classes ({", ".join(cfg.classes)}), '
        f'{len(reduced)} tensors reduced'
    )


if __name__ == '__main__':
    sys.exit(cli.run(main))
