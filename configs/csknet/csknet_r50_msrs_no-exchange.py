# Ablation: the modalities meet in the fusion only.
_base_ = './csknet_r50_msrs.py'

model = dict(shared=dict(channel_exchange=None, spatial_exchange=None))
