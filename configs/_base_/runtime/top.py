# The runtime of classification; the end of the training writes `soup.pth`. On several
# GPUs, each measures statistics of norms on its own images, and their mean is kept.
_base_ = './cls.py'

default_hooks = dict(sync_buffers=dict(type='SyncBuffersHook'))
custom_hooks = [
    dict(type='mmir.GradientReversalHook'),
    dict(type='mmir.UniformSoupHook', variance='total', recalibrate=True, batches=200),
]
