# Ablation: no teacher.
_base_ = './csknet_r50_msrs.py'

model = dict(teacher=None)
