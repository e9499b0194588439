"""`CrossModalIdentitySampler`: as many RGB as infrared images of every identity."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from mmir.registry import DATA_SAMPLERS
from mmir.utils.errors import UserError

from .labels import labels_of, share_of_ids, shared_seed


@DATA_SAMPLERS.register_module()
class CrossModalIdentitySampler(Sampler):
    """Batches of identities with equally many RGB and infrared images.

    A batch holds `ids_per_batch` different identities and `images_per_id` images of
    each in each modality, drawn with replacement. Its order is all RGB images, then all
    infrared ones; the k-th of both show the same person. The batch size of the loader
    is `2 * ids_per_batch * images_per_id`, divided by the number of processes.

    With `seed=0` the batches are those of the release of AGW (Ye et al., TPAMI 2021),
    bit for bit: NumPy's legacy generator, seeded once and continued from epoch to
    epoch, and one batch more per epoch than the larger modality fills. Write the seed
    into the config: without it, mmengine passes the seed of the run. An epoch can be
    drawn again, also after resuming; jumping ahead draws all epochs in between.

    In distributed training every process draws the same batches and takes the images of
    its share of the identities, so that the global batch does not depend on their
    number.

    Args:
        dataset (Dataset): Samples with `gt_label` and `modality`.
        ids_per_batch (int): Identities in a batch of all processes.
        images_per_id (int): Images per identity and modality.
        seed (int, optional): Random seed, the same in all processes. None: a random
            one.

    Raises:
        UserError: An identity lacks a modality, there are too few identities, or the
            identities of a batch cannot be split among the processes.
    """

    def __init__(
        self,
        dataset: object,
        ids_per_batch: int = 8,
        images_per_id: int = 4,
        seed: int | None = None,
    ) -> None:
        labels, modalities = labels_of(dataset)
        self.ids = np.unique(labels)
        self.indices = {
            modality: _by_label(labels, modalities == modality)
            for modality in ('rgb', 'ir')
        }
        _check(self.ids, self.indices, ids_per_batch)
        self.ids_per_batch, self.images_per_id = ids_per_batch, images_per_id
        self.share = share_of_ids(ids_per_batch)
        larger = max(np.count_nonzero(modalities == name) for name in self.indices)
        self.batches = larger // (ids_per_batch * images_per_id) + 1
        self.seed, self.epoch = shared_seed(seed), 0
        self._states = [np.random.RandomState(self.seed).get_state()]

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
            np.ndarray: Indices (batches, 2, ids_per_batch, images_per_id) into the
            dataset, int64; RGB is 0, infrared 1.
        """
        while len(self._states) <= epoch:
            self._draw_from(self._states[-1])
        return self._draw_from(self._states[epoch])

    def _draw_from(self, state: tuple) -> np.ndarray:
        """Draw the batches that follow a state; keep where they end, if that is new."""
        random = np.random.RandomState()
        random.set_state(state)
        shape = (self.batches, 2, self.ids_per_batch, self.images_per_id)
        drawn = np.empty(shape, np.int64)
        rgb, ir = self.indices['rgb'], self.indices['ir']
        for batch in drawn:
            ids = random.choice(self.ids, self.ids_per_batch, replace=False)
            for k, label in enumerate(ids.tolist()):  # the order of draws matters
                batch[0, k] = random.choice(rgb[label], self.images_per_id)
                batch[1, k] = random.choice(ir[label], self.images_per_id)
        if state is self._states[-1]:
            self._states.append(random.get_state())
        return drawn

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process, batch after batch."""
        yield from self.draw(self.epoch)[:, :, self.share].ravel().tolist()

    def __len__(self) -> int:
        """Number of indices of this process in an epoch."""
        own = self.share.stop - self.share.start
        return self.batches * 2 * own * self.images_per_id


def _by_label(labels: np.ndarray, chosen: np.ndarray) -> dict[int, np.ndarray]:
    """Map labels to the chosen samples, in ascending order."""
    places = np.flatnonzero(chosen)
    if not len(places):  # np.split would return one part
        return {}
    order = places[np.argsort(labels[places], kind='stable')]
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def _check(
    ids: np.ndarray, indices: dict[str, dict[int, np.ndarray]], ids_per_batch: int
) -> None:
    """Refuse data that a batch cannot be drawn from."""
    for modality, by_label in indices.items():
        gone = sorted(set(ids.tolist()) - by_label.keys())
        if gone:
            raise UserError(
                f'{len(gone)} of {len(ids)} identities have no {modality} image '
                f'(labels {gone[:5]}); leave them out or check `modality`'
            )
    if len(ids) < ids_per_batch:
        raise UserError(
            f'a batch needs {ids_per_batch} identities, but the dataset has {len(ids)}'
        )
