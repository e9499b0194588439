"""Hook that saves the adapter next to the checkpoints."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmir.adapters import parts_in_stage, save_adapter


@HOOKS.register_module()
class AdapterCheckpointHook(Hook):
    """Write `<work_dir>/adapter.pth` whenever a checkpoint is saved.

    The file holds what the stage changed and nothing else (`save_adapter`). With an
    `EMAHook` of higher priority it holds the averaged weights. Where only a part of the
    model is adapted, such as its backbone, the file is of that part:
    `load_adapter(model.backbone, 'adapter.pth')`. With several parts, their names stand
    in the file names. Nothing is written for models that are not being adapted, so
    configs of all stages can share this hook.

    Args:
        filename (str): Name of the file in the work dir.
    """

    priority = 'VERY_LOW'

    def __init__(self, filename: str = 'adapter.pth') -> None:
        self.filename = filename

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write the adapter of the weights about to be saved (called on rank 0).

        Args:
            runner (Runner): The runner.
            checkpoint (dict): Checkpoint, as left by the hooks of higher priority.
        """
        parts = parts_in_stage(runner.model)
        for name, part in parts.items():
            path = Path(runner.work_dir) / self.filename
            if len(parts) > 1:
                path = path.with_stem(f'{path.stem}.{name}')
            prefix = f'{name}.' if name else ''
            values = {
                key.removeprefix(prefix): value
                for key, value in checkpoint['state_dict'].items()
                if key.startswith(prefix)
            }
            size = save_adapter(part, path, values) / 2**20
            of = f' of {name}' if name else ''
            print_log(f'{path}: adapter{of}, {size:.2f} MiB', logger='current')
