# Ablation: distillation into the encoder only.
_base_ = './csknet_r50_msrs.py'

model = dict(distill=dict(decoder=0.0))
