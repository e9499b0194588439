# As adam_25e.py, with YOLOX's L1 loss on boxes in the last epochs.
_base_ = './adam_25e.py'

custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmir.SubsetRecordHook'),
    dict(type='mmir.AdapterCheckpointHook'),
    dict(type='mmir.ScheduleEMAHook', update_buffers=True, priority=49),
    dict(type='YOLOXModeSwitchHook', num_last_epochs=4, skip_type_keys=(), priority=48),
]
