# The runtime of classification; the end of the training writes `soup.pth`.
_base_ = './cls.py'

custom_hooks = [
    dict(type='mmir.GradientReversalHook'),
    dict(type='mmir.UniformSoupHook', variance='total', recalibrate=True, batches=200),
]
