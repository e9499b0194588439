from .tensorfact import TensorFactConv
