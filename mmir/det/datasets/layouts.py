"""The public detection datasets with an infrared camera, a class each."""

from mmir.data.layouts.det import (
    DRONE_VEHICLE,
    FLIR_ALIGNED,
    HIT_UAV,
    KAIST,
    LLVIP,
    M3FD,
)
from mmir.registry import DATASETS

from .layout_dataset import LayoutDataset


@DATASETS.register_module()
class FLIRAlignedDataset(LayoutDataset):
    """FLIR-aligned: registered pairs, boxes drawn on the thermal images.

    Splits 'train', 'val'; person, bicycle, car. See :class:`LayoutDataset`.
    """

    LAYOUT = FLIR_ALIGNED


@DATASETS.register_module()
class LLVIPDataset(LayoutDataset):
    """LLVIP: people from above at night, registered pairs.

    Splits 'train', 'test'; person. See :class:`LayoutDataset`.
    """

    LAYOUT = LLVIP


@DATASETS.register_module()
class M3FDDataset(LayoutDataset):
    """M3FD: streets and campus, registered pairs, no official split.

    Splits 'train', 'val' as the converter drew them; six classes. See
    :class:`LayoutDataset`.
    """

    LAYOUT = M3FD


@DATASETS.register_module()
class KAISTDataset(LayoutDataset):
    """KAIST: pedestrians from a car, registered pairs.

    Splits 'train', 'test'; person. Labels people, cyclist and `person?` are crowd
    boxes: neither trained on nor counted. See :class:`LayoutDataset`.
    """

    LAYOUT = KAIST


@DATASETS.register_module()
class HITUAVDataset(LayoutDataset):
    """HIT-UAV: infrared images from a drone, modality 'ir' only.

    Splits 'train', 'val', 'test'; Person, Car, Bicycle, OtherVehicle; DontCare is a
    crowd box of every class: neither trained on nor counted. See
    :class:`LayoutDataset`.
    """

    LAYOUT = HIT_UAV


@DATASETS.register_module()
class DroneVehicleDataset(LayoutDataset):
    """DroneVehicle: vehicles from a drone, the box around each oriented label.

    Splits 'train', 'val', 'test'; five classes. Either camera has labels of its own:
    `labels='ir'` or `'rgb'` chooses with modality 'both'. See :class:`LayoutDataset`.
    """

    LAYOUT = DRONE_VEHICLE
