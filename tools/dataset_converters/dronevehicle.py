"""Check DroneVehicle, cut the white border off its images, write COCO files.

    python tools/dataset_converters/dronevehicle.py data/DroneVehicle --check
    python tools/dataset_converters/dronevehicle.py data/DroneVehicle

ROOT holds {train,val,test}/, each with `trainimg` (visible), `trainimgr` (infrared),
`trainlabel` and `trainlabelr`. The images are 840x712 with a border of 100 px; what is
inside goes to ROOT/cropped/ (640x512, JPEG quality 95; it takes the disk space of the
originals again). An image that is there already is kept. Writes ROOT/coco/SPLIT_ir.json
(labels drawn on the infrared images) and SPLIT_rgb.json for `mmir.DroneVehicleDataset`;
a box is the one around the oriented label.
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
    """Write the inside of an image, in one step, unless it is there.

    Args:
        root (Path): Folder of the dataset.
        name (str): The image, relative to it.
        border (int): Width of the border in px.

    Raises:
        ImageReadError: The image cannot be read or is not larger than its border.
    """
    target = root / CROPPED / name
    if target.exists():
        return
    image = read_image(str(root / name))
    if min(image.shape[:2]) <= 2 * border:
        raise ImageReadError(
            f'{root / name} is {image.shape[1]}x{image.shape[0]}: there is nothing '
            f'inside a border of {border} px. Is it cropped already?'
        )
    inside = image[border:-border, border:-border]
    done, data = cv2.imencode('.jpg', inside, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ImageReadError(f'{root / name} cannot be encoded')
    write_bytes(data.tobytes(), target)


def crop_all(root: Path, names: list[str], threads: int = 8) -> None:
    """Cut the border off images.

    Args:
        root (Path): Folder of the dataset.
        names (list[str]): Images, relative to it.
        threads (int): Threads (OpenCV releases the interpreter lock).
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
