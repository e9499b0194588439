"""Write the reference outputs of MMYOLO that the YOLOv7 tests compare with.

Needs MMYOLO 0.6.0 and mmdet 3.3.0 in a separate environment, with mmir on its path.
MMYOLO is licensed under the GPL. The outputs are numbers computed from weights and
images that a formula generates; they contain none of its code.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import mmir  # noqa: F401  (before mmdet: it may lack compiled operators)

ROOT = Path(__file__).parents[2] / 'tests'
TESTS = ROOT / 'det/yolov7'
PACKAGES = ('mmyolo', 'mmdet', 'mmengine', 'torch')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', default=str(TESTS / 'data/yolov7_mmyolo.json'))
    args = parser.parse_args()
    sys.path[:0] = [str(TESTS), str(ROOT)]
    from yolov7_mmyolo import AVAILABLE, MMYOLO
    from yolov7_oracle import record

    if not AVAILABLE:
        parser.error('mmyolo is not installed here')
    made_with = {name: version(name) for name in PACKAGES}
    content = json.dumps(dict(made_with=made_with, **record(MMYOLO())), indent=1)
    Path(args.out).write_text(content + '\n', encoding='utf-8')
    print(f'{args.out}: {len(content)} characters')


if __name__ == '__main__':
    main()
