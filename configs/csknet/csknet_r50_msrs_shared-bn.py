# Baseline: one network for both modalities, norms included; so no exchange of channels.
_base_ = './csknet_r50_msrs.py'

model = dict(shared=dict(separate='none', channel_exchange=None))
