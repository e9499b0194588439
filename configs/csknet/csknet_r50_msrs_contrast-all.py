# Ablation: pixels are contrasted with those of all modalities.
_base_ = './csknet_r50_msrs.py'

model = dict(contrast=dict(scope='all'))
