# MFT by convolution only.
_base_ = './tmpa_r50_sysu.py'

model = dict(backbone=dict(transfer=dict(paths=['convolution'])))
