"""YOLOv7 detector."""

from mmdet.models.detectors.single_stage import SingleStageDetector

from mmir.det.yolov7.deploy import deploy_
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv7(SingleStageDetector):
    """YOLOv7 (tiny, L, X) of `YOLOv7Backbone`, `YOLOv7Neck` and `YOLOv7Head`.

    Source: Wang et al., YOLOv7: Trainable Bag-of-Freebies Sets New State-of-the-Art
    for Real-Time Object Detectors, CVPR 2023.

    Takes the arguments of mmdet's `SingleStageDetector`.

    Attributes:
        deployed (bool): Whether `to_deploy` was called.
    """

    deployed = False

    def to_deploy(self) -> 'YOLOv7':
        """Fold the network into plain convolutions for inference, in place.

        See `mmir.det.yolov7.deploy.deploy_`. Predictions stay the same. The state dict
        becomes that of the folded network, which loads into a model after `to_deploy`.
        Calling it again has no effect.

        Returns:
            YOLOv7: The detector itself.

        Raises:
            RuntimeError: The model is in training mode.
            ValueError: A layer has NaN or infinite weights; the message names it.
        """
        if self.training:
            raise RuntimeError(
                'to_deploy folds batch norms with their running statistics, so '
                'training must be over: call eval() first'
            )
        deploy_(self)
        self.deployed = True
        return self

    def train(self, mode: bool = True) -> 'YOLOv7':
        """Set training or evaluation mode.

        Raises:
            RuntimeError: Training mode was requested after `to_deploy`.
        """
        if mode and self.deployed:
            raise RuntimeError(
                'a deployed YOLOv7 cannot train: its batch norms and implicit layers '
                'are folded. Build a new model and load its checkpoint'
            )
        return super().train(mode)
