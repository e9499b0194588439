# Ablation: exchange of channels only.
_base_ = './csknet_r50_msrs.py'

model = dict(shared=dict(spatial_exchange=None))
