"""The YOLOv7 detector."""

from mmdet.models.detectors.single_stage import SingleStageDetector

from mmir.det.yolov7.deploy import deploy_
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv7(SingleStageDetector):
    """YOLOv7 (tiny, L, X): `YOLOv7Backbone`, `YOLOv7Neck` and `YOLOv7Head`.

    Source: Wang et al., YOLOv7: Trainable Bag-of-Freebies Sets New State-of-the-Art
    for Real-Time Object Detectors, CVPR 2023.

    Takes the arguments of mmdet's `SingleStageDetector`.

    Attributes:
        deployed (bool): Whether `to_deploy` was called.
    """

    deployed = False

    def to_deploy(self) -> 'YOLOv7':
        """Fold the network into plain convolutions, in place, for prediction.

        See `mmir.det.yolov7.deploy.deploy_`. The predictions stay; the state dict
        becomes that of the plain network, which loads into a model after `to_deploy`.
        A second call changes nothing.

        Returns:
            YOLOv7: The detector itself.

        Raises:
            RuntimeError: In training mode.
            ValueError: For NaN or infinite weights, naming the layer.
        """
        if self.training:
            raise RuntimeError(
                'to_deploy folds batch norms with their running statistics and ends '
                'training: call eval() first'
            )
        deploy_(self)
        self.deployed = True
        return self

    def train(self, mode: bool = True) -> 'YOLOv7':
        """Set the mode.

        Raises:
            RuntimeError: Training mode after `to_deploy`.
        """
        if mode and self.deployed:
            raise RuntimeError(
                'a deployed YOLOv7 cannot train: its batch norms and implicit layers '
                'are folded away. Build the model anew and load its checkpoint'
            )
        return super().train(mode)
