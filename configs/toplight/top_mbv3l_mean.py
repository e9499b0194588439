# Variances of the soup as the code of "Model soups" averages them; nothing is measured.
_base_ = './top_mbv3l.py'

custom_hooks = [
    _base_.custom_hooks[0],
    dict(type='mmir.UniformSoupHook', variance='mean', recalibrate=False),
]
