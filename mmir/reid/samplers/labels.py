"""Labels and modalities of a dataset; seed and share of a process."""

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed

from mmir.utils.errors import UserError


def labels_of(dataset: object) -> tuple[np.ndarray, np.ndarray]:
    """Read the label and the modality of every sample.

    Args:
        dataset (object): Dataset with `get_data_info`, whose samples have `gt_label`.

    Returns:
        tuple[np.ndarray, np.ndarray]: Labels (N,) of int64; modalities (N,) of str, ''
        where a sample has none.

    Raises:
        UserError: Samples have no label.
    """
    infos = [dataset.get_data_info(k) for k in range(len(dataset))]
    if not infos or 'gt_label' not in infos[0]:
        raise UserError(
            f'{type(dataset).__name__} has no samples with gt_label; identity samplers '
            'need a dataset such as mmir.SYSUMM01 or mmir.PersonListDataset'
        )
    labels = np.array([int(info['gt_label']) for info in infos], np.int64)
    return labels, np.array([info.get('modality', '') for info in infos])


def shared_seed(seed: int | None) -> int:
    """Return the seed, or a random one that all processes agree on."""
    return sync_random_seed() if seed is None else seed


def share_of_ids(ids_per_batch: int) -> slice:
    """Positions in a batch of the identities of this process.

    Args:
        ids_per_batch (int): Identities in a batch of all processes.

    Returns:
        slice: Consecutive positions.

    Raises:
        UserError: The processes cannot have equal shares.
    """
    rank, world = get_dist_info()
    if ids_per_batch % world:
        raise UserError(
            f'{ids_per_batch} identities per batch cannot be split evenly among '
            f'{world} processes; set ids_per_batch to a multiple'
        )
    own = ids_per_batch // world
    return slice(rank * own, (rank + 1) * own)
