"""Base class of the YOLO detectors, which fold into plain convolutions."""

from mmdet.models.detectors.single_stage import SingleStageDetector

from mmir.det.yolo.deploy import deploy_


class YOLODetector(SingleStageDetector):
    """Single-stage detector that can be folded for inference.

    Takes the arguments of mmdet's `SingleStageDetector`.

    Attributes:
        deployed (bool): Whether `to_deploy` was called.
    """

    deployed = False

    def to_deploy(self) -> 'YOLODetector':
        """Fold the network into plain convolutions for inference, in place.

        See `mmir.det.yolo.deploy.deploy_`. Predictions stay the same. The state dict
        becomes that of the folded network, which loads into a model after `to_deploy`.
        Calling it again has no effect.

        Returns:
            YOLODetector: The detector itself.

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

    def train(self, mode: bool = True) -> 'YOLODetector':
        """Set training or evaluation mode.

        Raises:
            RuntimeError: Training mode was requested after `to_deploy`.
        """
        if mode and self.deployed:
            raise RuntimeError(
                f'a deployed {type(self).__name__} cannot train: its batch norms are '
                'folded. Build a new model and load its checkpoint'
            )
        return super().train(mode)
