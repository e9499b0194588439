# Ablation: distillation into the decoder only.
_base_ = './csknet_r50_msrs.py'

model = dict(distill=dict(encoder=0.0))
