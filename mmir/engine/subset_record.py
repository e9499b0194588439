"""Hook that records which images are in a few-shot subset."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmir.data.wrappers import leaf_datasets
from mmir.utils.files import write_json


@HOOKS.register_module()
class SubsetRecordHook(Hook):
    """Write `<work_dir>/subset_<split>.json` before training starts.

    One file is written for every dataset of the training and validation loaders that
    has `chosen` file names (`CocoSubsetDataset`, `FLIRDataset` with `subset`). The
    second dataset of a split gets `subset_<split>_1.json`. To reuse the same images,
    set `subset=dict(files='work_dirs/.../subset_train.json')` in a dataset. Only rank 0
    writes, atomically.
    """

    def before_train(self, runner: Runner) -> None:
        """Write the files.

        Args:
            runner (Runner): The runner, with its loaders built.
        """
        if not is_main_process():
            return
        loops = {'train': runner.train_loop, 'val': runner.val_loop}
        for split, loop in loops.items():
            if loop is None:
                continue
            chosen = [
                dataset
                for dataset in leaf_datasets(loop.dataloader.dataset)
                if getattr(dataset, 'chosen', None) is not None
            ]
            for k, dataset in enumerate(chosen):
                name = f'subset_{split}' + (f'_{k}' if k else '') + '.json'
                path = Path(runner.work_dir) / name
                write_json(_record(dataset), path)
                runner.logger.info(f'{len(dataset.chosen)} images listed in {path}')


def _record(dataset: object) -> dict:
    """Describe a subset in JSON types."""
    return {
        'ann_file': str(dataset.ann_file),
        'subset': {key: _plain(value) for key, value in dataset.subset.items()},
        'num': len(dataset.chosen),
        'files': list(dataset.chosen),
    }


def _plain(value: object) -> object:
    """Convert paths and tuples to JSON types."""
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return value if isinstance(value, int | float | None) else str(value)
