# Without the fake domain loss: row 4 of table 3.
_base_ = './top_mbv3l.py'

model = dict(head=dict(domain=None))
custom_hooks = [_base_.custom_hooks[1]]  # no gradient is reversed
