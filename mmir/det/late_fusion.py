"""Late fusion of detections: one detector a modality, their boxes fused."""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.structures import SampleList
from mmdet.utils import OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor

from mmir.fusion.late import LateFusion, chosen, present
from mmir.registry import MODELS

from .box_fusion import BoxFusion


@MODELS.register_module()
class LateFusionDetector(LateFusion, BaseDetector):
    """A detector of mmdet for each modality; the boxes of those present are fused.

    ::

        model=dict(
            type='mmir.LateFusionDetector',
            data_preprocessor=dict(type='mmir.PairedDetDataPreprocessor', ...),
            detectors=dict(rgb=dict(type='mmdet.RTMDet', ...), ir=dict(...)),
            checkpoints=dict(rgb='rgb.pth', ir='ir.pth'),
            fuse=dict(method='wbf', iou_threshold=0.55))

    For training see :class:`mmir.fusion.late.LateFusion`.

    Args:
        detectors (Mapping[str, dict]): Modality -> config of its detector; they have
            the same classes. `data_preprocessor` in it is left out.
        data_preprocessor (dict): A paired one, for all.
        fuse (str | dict): Arguments of :class:`mmir.det.box_fusion.BoxFusion`, or its
            `method` alone.
        checkpoints (Mapping[str, str], optional): Modality -> checkpoint file of its
            detector alone, read without running code in it.
        train_cfg (dict, optional): Not used: each detector has its own. The hosts'
            tools set it.
        test_cfg (dict, optional): The same.
        init_cfg (dict, optional): Initialisation, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: A name is no modality of the data preprocessor; `fuse` is wrong.
        RuntimeError: A checkpoint cannot be read safely or does not fit.
    """

    def __init__(
        self,
        detectors: Mapping[str, dict],
        data_preprocessor: dict,
        fuse: str | dict = 'nms',
        checkpoints: Mapping[str, str | Path | None] | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.fuse = BoxFusion(**({'method': fuse} if isinstance(fuse, str) else fuse))
        self._set_members(detectors, checkpoints)

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
    ) -> SampleList:
        """Find boxes in each modality that is present, and fuse them.

        Args:
            batch_inputs (Tensor): Shape (N, C, H, W), all modalities.
            batch_data_samples (list[DetDataSample]): Samples with `absent`.
            rescale (bool): Boxes of the original image.

        Returns:
            list[DetDataSample]: The samples with `pred_instances`; without a box where
            no detector's modality is present.
        """
        found: list[list[InstanceData]] = [[] for _ in batch_data_samples]
        for name, part in self._parts(batch_inputs).items():
            rows = present(batch_data_samples, name)
            if not rows:
                continue
            part, samples = chosen(part, batch_data_samples, rows)
            predicted = self.members[name].predict(part, samples, rescale=rescale)
            for row, sample in zip(rows, predicted, strict=True):
                found[row].append(sample.pred_instances)
        nothing = InstanceData(
            bboxes=batch_inputs.new_zeros(0, 4),
            scores=batch_inputs.new_zeros(0),
            labels=batch_inputs.new_zeros(0, dtype=torch.long),
        )
        fused = [self.fuse(each or [nothing]) for each in found]
        return self.add_pred_to_datasample(batch_data_samples, fused)
