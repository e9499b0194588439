"""`IdentitySampler`: P identities, K images of each, of any modality."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from mmir.registry import DATA_SAMPLERS
from mmir.utils.errors import UserError

from .labels import labels_of, share_of_ids, shared_seed


@DATA_SAMPLERS.register_module()
class IdentitySampler(Sampler):
    """Batches of P identities and K images of each (Hermans et al., 2017).

    Identities come in random order, and none comes again before nearly all have come.
    Images of an identity are drawn without replacement if it has enough of them. An
    epoch has about as many images as the dataset. The batch size of the loader is
    `ids_per_batch * images_per_id`, divided by the number of processes; each process
    takes its share of the identities.

    Args:
        dataset (Dataset): Samples with `gt_label`.
        ids_per_batch (int): Identities in a batch of all processes.
        images_per_id (int): Images per identity.
        seed (int, optional): Random seed, the same in all processes; an epoch is drawn
            from seed and epoch. Default: that of the run, which mmengine passes.

    Raises:
        UserError: There are too few identities, or those of a batch cannot be split
            among the processes.
    """

    def __init__(
        self,
        dataset: object,
        ids_per_batch: int = 16,
        images_per_id: int = 4,
        seed: int | None = None,
    ) -> None:
        labels, _ = labels_of(dataset)
        self.groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        if len(self.groups) < ids_per_batch:
            raise UserError(
                f'a batch needs {ids_per_batch} identities, but the dataset has '
                f'{len(self.groups)}'
            )
        self.ids_per_batch, self.images_per_id = ids_per_batch, images_per_id
        self.share = share_of_ids(ids_per_batch)
        self.seed, self.epoch = shared_seed(seed), 0
        self.batches = max(1, len(labels) // (ids_per_batch * images_per_id))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to draw; mmengine calls it before every epoch.

        Args:
            epoch (int): Number of the epoch, from 0.
        """
        self.epoch = epoch

    def draw(self, epoch: int) -> np.ndarray:
        """Draw the batches of an epoch.

        Args:
            epoch (int): Number of the epoch, from 0.

        Returns:
            np.ndarray: Indices (batches, ids_per_batch, images_per_id) into the
            dataset, int64.
        """
        rng = np.random.default_rng((self.seed, epoch))
        queue: list[int] = []
        drawn = np.empty(
            (self.batches, self.ids_per_batch, self.images_per_id), np.int64
        )
        for batch in drawn:
            if len(queue) < self.ids_per_batch:  # the rest would repeat identities
                queue = rng.permutation(len(self.groups)).tolist()
            for k in range(self.ids_per_batch):
                group = self.groups[queue.pop()]
                again = len(group) < self.images_per_id
                batch[k] = rng.choice(group, self.images_per_id, replace=again)
        return drawn

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process, batch after batch."""
        yield from self.draw(self.epoch)[:, self.share].ravel().tolist()

    def __len__(self) -> int:
        """Number of indices of this process in an epoch."""
        own = self.share.stop - self.share.start
        return self.batches * own * self.images_per_id
