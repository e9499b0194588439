# Visible-infrared people: RegDB. Train and test one model per trial, 1 to 10.
_base_ = './reid_sysu.py'

data_root = 'data/RegDB'
trial = 1
train_dataloader = dict(
    dataset=dict(type='mmir.RegDB', data_root=data_root, trial=trial)
)
val_dataloader = dict(dataset=dict(type='mmir.RegDB', data_root=data_root, trial=trial))
test_dataloader = val_dataloader
val_evaluator = dict(protocols=['regdb_rgb2ir', 'regdb_ir2rgb'])
test_evaluator = val_evaluator
demo = dict(data='RegDB', length=20)
