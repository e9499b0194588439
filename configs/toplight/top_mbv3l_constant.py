# Gradient reversal at its full rate from the beginning, not by the schedule of DANN.
_base_ = './top_mbv3l.py'

custom_hooks = [_base_.custom_hooks[1]]  # the soup
