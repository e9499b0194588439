# The runtime of classification, with a watch on features that collapse. Models of
# another trial are refused, since they know the people to be found.
_base_ = './cls.py'

custom_hooks = [
    dict(type='mmir.CollapseMonitorHook'),
    dict(type='mmir.TrainingSplitHook'),
]
