"""Run a shipped config small, on synthetic images: what `--demo` does."""

from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from mmir.testing.rescale import set_schedule
from mmir.testing.scenes import write_drones, write_flir
from mmir.testing.shrink import shrink

DATA = Path('work_dirs/demo_data')
"""Folder the synthetic images are written to, once."""

TRAIN_IMAGES, VAL_IMAGES = 200, 60
EPOCHS = {'rgb': 12, 'ir': 16}
BATCH_SIZE = 4
LEARNING_RATE = 1e-3  # the RGB stage starts from scratch


def apply_demo(cfg: Config, work_dir: str) -> Config:
    """Turn a detection config into its demo.

    The config's key `demo`, such as `dict(data='street', modality='ir')`, says which
    scenes stand for its data.

    Args:
        cfg (Config): A shipped config; not changed.
        work_dir (str): Where the run will write; the demo of the RGB stage is looked
            for beside it.

    Returns:
        Config: Small network, 320 px, short schedule from scratch, synthetic data.

    Raises:
        ValueError: The config has no key `demo`.
    """
    if 'demo' not in cfg:
        raise ValueError(
            'this config has no demo: it needs demo=dict(data="street" or "drone", '
            'modality="rgb" or "ir")'
        )
    modality = cfg.demo.modality
    small = shrink(cfg)
    train, test = (_street if cfg.demo.data == 'street' else _drone)(modality)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        _dataset(small[key]).update(train if key == 'train_dataloader' else test)
    set_schedule(small, EPOCHS[modality], BATCH_SIZE)
    small.optim_wrapper.optimizer.lr = LEARNING_RATE
    small.load_from = _rgb_stage(small.get('load_from'), Path(work_dir).parent)
    return small


def _dataset(loader: dict) -> dict:
    """The data set of a loader, inside its wrappers."""
    dataset = loader['dataset']
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _street(modality: str) -> tuple[dict, dict]:
    """Street scenes in FLIR layout: arguments of the training and test data set."""
    root = DATA / 'street'
    write_flir(root, train=TRAIN_IMAGES, val=VAL_IMAGES, seed=0)
    name = {'rgb': 'rgb', 'ir': 'thermal'}[modality]
    return tuple(
        dict(
            data_root=str(root),
            ann_file=f'{split}/{name}_annotations.json',
            data_prefix=dict(img=f'{split}/'),
        )
        for split in ('train', 'val')
    )


def _drone(modality: str) -> tuple[dict, dict]:
    """Flying objects in COCO layout: arguments of the training and test data set."""
    root = DATA / f'drone_{modality}'
    write_drones(root, modality=modality, train=TRAIN_IMAGES, test=VAL_IMAGES, seed=0)
    return tuple(
        dict(
            data_root=str(root),
            ann_file=f'{split}.json',
            data_prefix=dict(img='images/'),
        )
        for split in ('train', 'test')
    )


def _rgb_stage(load_from: str | None, beside: Path) -> str | None:
    """The checkpoint to start from: as given, else that of the RGB stage's demo."""
    if load_from is None or Path(load_from).is_file():
        return load_from
    stage = Path(load_from).parent.name
    for folder in (beside / f'{stage}_demo', beside / stage):
        merged = folder / Path(load_from).name
        latest = folder / 'last_checkpoint'
        if 'merged' in merged.name and merged.is_file():
            return str(merged)
        if 'merged' not in merged.name and latest.is_file():
            return latest.read_text().strip()
    print_log(
        f'no checkpoint of the RGB stage ({load_from}, or its demo in {beside}): this '
        f'demo starts from scratch. To see both stages, run that of '
        f'configs/tensorfact/{stage}.py first.',
        logger='current',
        level=30,  # logging.WARNING
    )
    return None
