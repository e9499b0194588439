# The runtime of classification, with a watch on features that collapse.
_base_ = './cls.py'

custom_hooks = [dict(type='mmir.CollapseMonitorHook')]
