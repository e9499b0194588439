# Ablation: exchange of columns only.
_base_ = './csknet_r50_msrs.py'

model = dict(shared=dict(channel_exchange=None))
