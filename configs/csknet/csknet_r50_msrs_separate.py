# Baseline: an encoder per modality, convolutions included.
_base_ = './csknet_r50_msrs.py'

model = dict(shared=dict(separate='all'))
