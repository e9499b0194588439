"""TensorFact: convolutions as two low-rank factors, plus a delta for another camera."""

from .complementarity import Complementarity, complementarity_loss
from .complementarity_hook import attach_complementarity_, detach_complementarity_
from .compression import CompressionPlan, compression_plan
from .export import to_factored_modules_
from .factorize import FactorizeReport, augment_, factorize_
from .layer import TensorFactConv
from .method import TensorFact
from .split import SPLITS

__all__ = [
    'SPLITS',
    'Complementarity',
    'CompressionPlan',
    'FactorizeReport',
    'TensorFact',
    'TensorFactConv',
    'attach_complementarity_',
    'augment_',
    'complementarity_loss',
    'compression_plan',
    'detach_complementarity_',
    'factorize_',
    'to_factored_modules_',
]
