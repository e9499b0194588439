# The schedule of AGW. MFT is new, so it learns at the rate of the head.
_base_ = './sgd_81e_agw.py'

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone.transfer': dict(lr_mult=1.0)})
)
