"""Methods without adapter layers: they say what of the model itself trains."""

from mmengine.registry import MODELS

from mmir.adapters import Method


@MODELS.register_module()
class Full(Method):
    """Full fine-tuning: everything trains. The baseline of every table."""

    freezes = False


@MODELS.register_module()
class Frozen(Method):
    """Only what `trainable` names trains, by default the heads.

    With `norm='all'` the normalization layers follow the new camera as well, the
    cheapest adaptation there is.
    """

    norm = 'frozen'


@MODELS.register_module()
class BitFit(Method):
    """Only biases and what `trainable` names train (BitFit, arXiv 2106.10199).

    Those of normalization layers are biases, too; running statistics stay.
    """

    trains = (r'(^|[._])bias$',)
    norm = 'frozen'
