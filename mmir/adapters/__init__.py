"""What all methods of adaptation share: layers, freezing, files, switching, merging."""

from .builder import Adapted, adapt_
from .checkpoint_fit import CheckpointMismatchError, check_fits
from .files import (
    adapter_layers,
    adapter_state,
    load_adapter,
    load_adapter_state,
    save_adapter,
)
from .freeze import FrozenBatchNorm, freeze_, thaw_
from .insert import InsertReport, insert_adapters_
from .layer import AdapterLayer, carry_hooks, take_over, undecayed
from .merge import merge_, merge_checkpoint, merge_state_dict
from .method import Method
from .plain import (
    PLAIN_CONVS,
    PLAIN_LINEARS,
    why_hooked,
    why_not_plain,
    why_not_plain_norm,
    why_tied,
)
from .record import in_stage, parts_in_stage, record_of, stage_of
from .report import TrainableReport, tally, trainable_report
from .switch import switch_adapter_, unload_adapter
from .walk import (
    HEADS,
    NameFilter,
    converted,
    count_parameters,
    is_head,
    names_of,
    refuse_wrapped,
    replace_,
    unwrap,
)

__all__ = [
    'HEADS',
    'PLAIN_CONVS',
    'PLAIN_LINEARS',
    'Adapted',
    'AdapterLayer',
    'CheckpointMismatchError',
    'FrozenBatchNorm',
    'InsertReport',
    'Method',
    'NameFilter',
    'TrainableReport',
    'adapt_',
    'adapter_layers',
    'adapter_state',
    'carry_hooks',
    'check_fits',
    'converted',
    'count_parameters',
    'freeze_',
    'in_stage',
    'insert_adapters_',
    'is_head',
    'load_adapter',
    'load_adapter_state',
    'merge_',
    'merge_checkpoint',
    'merge_state_dict',
    'names_of',
    'parts_in_stage',
    'record_of',
    'refuse_wrapped',
    'replace_',
    'save_adapter',
    'stage_of',
    'switch_adapter_',
    'take_over',
    'tally',
    'thaw_',
    'trainable_report',
    'undecayed',
    'unload_adapter',
    'unwrap',
    'why_hooked',
    'why_not_plain',
    'why_not_plain_norm',
    'why_tied',
]
