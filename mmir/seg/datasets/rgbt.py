"""Public RGB+thermal segmentation datasets."""

from typing import Any, Literal

from mmir.data.layouts.seg import LABEL, listed_names
from mmir.data.layouts.seg_sets import FMB, MFNET, MSRS, MVSEG, PST900, SEMANTICRT
from mmir.registry import DATASETS

from .paired_seg import PairedSegDataset


@DATASETS.register_module()
class MSRSDataset(PairedSegDataset):
    """MSRS: 1,083 + 361 street pairs, 640x480, 9 classes, day and night.

    `{train,test}/{vi,ir,Segmentation_labels}/00001D.png`; the last letter of a name is
    D for day or N for night. Label 0 is 'unlabelled', which published tables count as a
    class. Counts, layout, classes and palette are from the page of the dataset.

    Args:
        **kwargs: Arguments of :class:`PairedSegDataset`, including `split`.
    """

    LAYOUT = MSRS
    METAINFO: dict = MSRS.metainfo


@DATASETS.register_module()
class MFNetDataset(PairedSegDataset):
    """MFNet: 1,569 street pairs, 640x480, 9 classes; both cameras in one PNG.

    `images/00001D.png` has four planes, the last of which is thermal, so both paths of
    a sample are the same file. Load it with `modalities=dict(rgb=dict(planes=(0, 3)),
    ir=dict(planes=(3, 4), channels=1))`, and thermal alone with
    `LoadThermalImage(planes=(3, 4))` (mmseg's own loader would return color). Label
    maps are in `labels/`, lists are `train.txt`, `val.txt`, `test.txt`, `test_day.txt`,
    `test_night.txt`. From memory, not verified: the split sizes (784, 392, 393), and
    that the training list names mirrored copies.

    Args:
        flip_copies (bool): Also use the mirrored copies in the list (`00001D_flip`).
            Default: False, which leaves flipping to `RandomFlip`.
        **kwargs: Arguments of :class:`PairedSegDataset`.
    """

    LAYOUT = MFNET
    METAINFO: dict = MFNET.metainfo

    def __init__(self, *, flip_copies: bool = False, **kwargs: Any) -> None:
        self.flip_copies = flip_copies
        super().__init__(**kwargs)

    def list_names(self) -> list[str] | None:
        """Get the names of the samples, without mirrored copies unless wanted.

        Returns:
            list[str] | None: Names in the list of the split.
        """
        copies = None if self.flip_copies else self.LAYOUT.copies
        folder = self.data_prefix[LABEL]
        names, left_out = listed_names(self.ann_file, folder, copies=copies)
        if left_out:
            self._say(f'MFNet: {len(left_out)} mirrored copies in the list left out')
        return names


@DATASETS.register_module()
class PST900Dataset(PairedSegDataset):
    """PST900: subterranean RGB, thermal and depth, 1280x720, 5 classes.

    `{train,test}/{rgb,thermal,thermal_raw,depth,labels}` with the same names in each.
    Thermal images are projected into the RGB camera and have holes of value 0. Depth
    (modality 'depth') has 16 bits. The authors' page gives 606 and 288 of 894 pairs,
    with train and test swapped. 597 and 288, as quoted in papers, are from memory, as
    is the palette.

    Args:
        bit_depth (int): 8 for `thermal`, 16 for `thermal_raw`, which needs
            `bit_depth=16` or `to_float32=True` in the loader.
        **kwargs: Arguments of :class:`PairedSegDataset`.

    Raises:
        ValueError: The bit depth is neither 8 nor 16.
    """

    LAYOUT = PST900
    METAINFO: dict = PST900.metainfo

    def __init__(self, *, bit_depth: Literal[8, 16] = 8, **kwargs: Any) -> None:
        if bit_depth not in (8, 16):
            raise ValueError(f'bit_depth must be 8 or 16, got {bit_depth!r}')
        if bit_depth == 16:
            split = kwargs.get('split', 'train')
            raw = PST900.prefixes(kwargs.get('data_root') or '', split)['ir16']
            kwargs['data_prefix'] = {'ir': raw, **(kwargs.get('data_prefix') or {})}
        super().__init__(**kwargs)


@DATASETS.register_module()
class FMBDataset(PairedSegDataset):
    """FMB: 1,220 + 280 street pairs, 800x600, 14 classes.

    `{train,test}/{Visible,Infrared,Label}/00001.png`. Label 0 means unlabeled and is
    ignored (`reduce_zero_label`), so the classes count from 0; some published tables
    count it as a 15th class. Folder and class names, order and palette are those of
    public readers of the dataset; the counts are from memory; neither is verified.

    Args:
        **kwargs: Arguments of :class:`PairedSegDataset`, including `split`.
    """

    LAYOUT = FMB
    METAINFO: dict = FMB.metainfo


@DATASETS.register_module()
class MVSegDataset(PairedSegDataset):
    """MVSeg: the 3,545 labeled frames of 738 RGB+thermal videos, 26 classes.

    `data/<video>/{visible,infrared,label}`; lists of videos `train.txt`, `val.txt`,
    `test.txt`, `test_day.txt`, `test_night.txt`. Only frames with a label map are used.
    The last letter of a name is v for visible, i for infrared and another for labels.
    255 is ignored here, while the authors' code makes it class 25. Layout, classes and
    palette are as in their code; the split sizes (452, 84 and 202 videos) are from
    memory.

    Args:
        **kwargs: Arguments of :class:`PairedSegDataset`, including `split`.
    """

    LAYOUT = MVSEG
    METAINFO: dict = MVSEG.metainfo


@DATASETS.register_module()
class SemanticRTDataset(PairedSegDataset):
    """SemanticRT: 11,371 street pairs, mostly from LLVIP, 13 classes.

    `{rgb,thermal}/*.jpg`, `labels/*.png`; lists `train.txt`, `val.txt`, `test.txt` and
    parts of the test set: `test_day`, `test_night`, `test_mc`, `test_mo`, `test_hard`.
    Layout, classes and palette are from the authors' page and code; split sizes were
    not verified.

    Args:
        **kwargs: Arguments of :class:`PairedSegDataset`, including `split`.
    """

    LAYOUT = SEMANTICRT
    METAINFO: dict = SEMANTICRT.metainfo
