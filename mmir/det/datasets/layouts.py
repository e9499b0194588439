"""Public detection datasets with an infrared camera, one class per dataset."""

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
    """LLVIP: people seen from above at night, registered pairs.

    Splits 'train', 'test'; person. See :class:`LayoutDataset`.
    """

    LAYOUT = LLVIP


@DATASETS.register_module()
class M3FDDataset(LayoutDataset):
    """M3FD: streets and campus, registered pairs, no official split.

    Splits 'train', 'val' as drawn by the converter; six classes. See
    :class:`LayoutDataset`.
    """

    LAYOUT = M3FD


@DATASETS.register_module()
class KAISTDataset(LayoutDataset):
    """KAIST: pedestrians seen from a car, registered pairs.

    Splits 'train', 'test'; person. Boxes of people, cyclist and `person?` are crowd
    boxes, ignored in training and evaluation. See :class:`LayoutDataset`.
    """

    LAYOUT = KAIST


@DATASETS.register_module()
class HITUAVDataset(LayoutDataset):
    """HIT-UAV: infrared images from a drone, modality 'ir' only.

    Splits 'train', 'val', 'test'; Person, Car, Bicycle, OtherVehicle. A DontCare box
    is a crowd box of every class, ignored in training and evaluation. See
    :class:`LayoutDataset`.
    """

    LAYOUT = HIT_UAV


@DATASETS.register_module()
class DroneVehicleDataset(LayoutDataset):
    """DroneVehicle: vehicles seen from a drone, boxes enclosing oriented labels.

    Splits 'train', 'val', 'test'; five classes. Each camera has its own labels; with
    modality 'both', `labels='ir'` or `'rgb'` selects them. See :class:`LayoutDataset`.
    """

    LAYOUT = DRONE_VEHICLE
