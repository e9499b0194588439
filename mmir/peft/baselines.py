"""Methods without adapter layers: they only select which parameters train."""

from mmengine.registry import MODELS

from mmir.adapters import Method


@MODELS.register_module()
class Full(Method):
    """Full fine-tuning of all parameters, the baseline of every table."""

    freezes = False


@MODELS.register_module()
class Frozen(Method):
    """Frozen model: only the `trainable` parameters train, by default the heads.

    With `norm='all'` the normalization layers adapt to the new camera as well, which is
    the cheapest adaptation there is.
    """

    norm = 'frozen'


@MODELS.register_module()
class BitFit(Method):
    """BitFit (arXiv 2106.10199): only biases and the `trainable` parameters train.

    Biases of normalization layers are included; running statistics do not change.
    """

    trains = (r'(^|[._])bias$',)
    norm = 'frozen'
