# Ablation: the mean of the features of the decoders in place of the gated unit.
_base_ = './csknet_r50_msrs.py'

model = dict(decode_head=dict(fusion=dict(type='mmir.AddFusion')))
