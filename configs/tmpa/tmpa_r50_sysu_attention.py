# MFT by cross attention only.
_base_ = './tmpa_r50_sysu.py'

model = dict(backbone=dict(transfer=dict(paths=['attention'])))
