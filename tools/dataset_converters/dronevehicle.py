"""Check DroneVehicle, crop the white border of its images, and write COCO files.

    python tools/dataset_converters/dronevehicle.py data/DroneVehicle --check
    python tools/dataset_converters/dronevehicle.py data/DroneVehicle

ROOT holds {train,val,test}/, each with `trainimg` (visible), `trainimgr` (infrared),
`trainlabel` and `trainlabelr`. The images are 840x712 with a border of 100 px. The
inner part goes to ROOT/cropped/ (640x512, JPEG quality 95), which takes as much disk
space as the originals; existing files are kept. Writes ROOT/coco/SPLIT_ir.json (labels
drawn on the infrared images) and SPLIT_rgb.json for `mmir.DroneVehicleDataset`. Boxes
are the bounding boxes of the oriented labels.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from _detection import Converter, records_in_folders, start
from _split import CROPPED
from tqdm import tqdm

from mmir.data.images import ImageReadError, read_image
from mmir.data.layouts.det import DRONE_VEHICLE
from mmir.utils.files import write_bytes

QUALITY = 95


def crop_image(root: Path, name: str, border: int) -> None:
    """Crop the border of an image and write it atomically, unless it exists.

    Args:
        root (Path): Root of the dataset.
        name (str): The image, relative to the root.
        border (int): Width of the border in pixels.

    Raises:
        ImageReadError: The image cannot be read or is not larger than its border.
    """
    target = root / CROPPED / name
    if target.exists():
        return
    image = read_image(str(root / name))
    if min(image.shape[:2]) <= 2 * border:
        raise ImageReadError(
            f'{root / name} is {image.shape[1]}x{image.shape[0]}: nothing is left '
            f'inside a border of {border} px. Is it already cropped?'
        )
    inside = image[border:-border, border:-border]
    done, data = cv2.imencode('.jpg', inside, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ImageReadError(f'{root / name} cannot be encoded')
    write_bytes(data.tobytes(), target)


def crop_all(root: Path, names: list[str], threads: int = 8) -> None:
    """Crop the border of images.

    Args:
        root (Path): Root of the dataset.
        names (list[str]): Images, relative to the root.
        threads (int): Number of threads (OpenCV releases the GIL).
    """
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(
            lambda name: crop_image(root, name, DRONE_VEHICLE.border), names
        )
        for _ in tqdm(done, 'cropping', len(names), leave=False):
            pass


CONVERTER = Converter(
    DRONE_VEHICLE, records_in_folders(DRONE_VEHICLE, with_labels=True), finish=crop_all
)

if __name__ == '__main__':
    start(CONVERTER, __doc__)
