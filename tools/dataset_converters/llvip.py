"""Check LLVIP and write COCO files of its pairs.

    python tools/dataset_converters/llvip.py data/LLVIP --check
    python tools/dataset_converters/llvip.py data/LLVIP

ROOT holds visible/{train,test}/, infrared/{train,test}/ and Annotations/. Writes
ROOT/coco/train.json and test.json for `mmir.LLVIPDataset`.
"""

from _detection import Converter, records_in_folders, start

from mmir.data.layouts.det import LLVIP

CONVERTER = Converter(LLVIP, records_in_folders(LLVIP))

if __name__ == '__main__':
    start(CONVERTER, __doc__)
