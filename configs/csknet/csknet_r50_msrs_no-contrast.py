# Ablation: no contrastive loss.
_base_ = './csknet_r50_msrs.py'

model = dict(contrast=None)
