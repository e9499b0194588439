"""Which samples of a batch have which modality, and the batch as a network sees it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmir.structures import ABSENT, PairError

Rows = tuple[int, ...]


@dataclass(frozen=True)
class Presence:
    """Which samples of a batch have which modality.

    A shared network sees the images of all modalities stacked along the batch, those of
    one modality after those of another. This class stacks and splits them.

    Attributes:
        names: All modalities of the model, in channel order.
        rows: Modality -> indices of the samples that have it, ascending. Modalities
            without any are left out; the others are in the order of `names`.
        batch: Number of samples.
    """

    names: tuple[str, ...]
    rows: Mapping[str, Rows]
    batch: int

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        batch: int,
        metainfo: Sequence[Mapping] | None = None,
        only: Collection[str] | None = None,
    ) -> 'Presence':
        """Read from the metainfo of a batch which modalities are present.

        Args:
            names: All modalities of the model, in channel order.
            batch: Number of samples.
            metainfo: Metainfo of the samples, with `absent`. Default: all present.
            only: Modalities to use. Default: all.

        Raises:
            PairError: A sample has none of the modalities to use, a name in `only` is
                unknown, or there is not one metainfo per sample.
        """
        metas = [{}] * batch if metainfo is None else list(metainfo)
        if len(metas) != batch:
            raise PairError(f'{batch} images, but the metainfo of {len(metas)} samples')
        used = (
            set(names) if only is None else {only} if isinstance(only, str) else {*only}
        )
        if unknown := used - set(names):
            raise PairError(f'unknown modalities {sorted(unknown)}, known: {[*names]}')
        gone = [set(meta.get(ABSENT, ())) for meta in metas]
        for meta, absent in zip(metas, gone, strict=True):
            if not used - absent:
                raise PairError(
                    f'{meta.get("img_path", "a sample")}: nothing to use, since '
                    f'{sorted(absent)} are absent of {sorted(used)}'
                )
        rows = {
            name: tuple(k for k, absent in enumerate(gone) if name not in absent)
            for name in names
            if name in used
        }
        return cls(tuple(names), {n: r for n, r in rows.items() if r}, batch)

    @property
    def active(self) -> tuple[str, ...]:
        """Modalities that at least one sample has."""
        return tuple(self.rows)

    @property
    def complete(self) -> bool:
        """Whether every sample has all active modalities."""
        return all(len(rows) == self.batch for rows in self.rows.values())

    def groups(self) -> dict[tuple[str, ...], Rows]:
        """Group the samples by what they have.

        Returns:
            Modalities -> indices of the samples that have exactly these.
        """
        found: dict[tuple[str, ...], list[int]] = {}
        for row in range(self.batch):
            subset = tuple(n for n, rows in self.rows.items() if row in rows)
            found.setdefault(subset, []).append(row)
        return {subset: tuple(rows) for subset, rows in found.items()}

    def take(self, x: Tensor, name: str) -> Tensor:
        """Select the samples of `x` (batch, ...) that have a modality."""
        return select(x, self.rows[name])

    def stack(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Stack the images of a batch by modality.

        Args:
            parts: Modality -> (batch, C, H, W), whatever is absent included.

        Returns:
            Shape (images that are present, C, H, W).

        Raises:
            PairError: The modalities differ in channels.
        """
        there = [self.take(parts[name], name) for name in self.active]
        if len({x.shape[1] for x in there}) > 1:
            counts = {name: parts[name].shape[1] for name in self.active}
            raise PairError(
                f'shared weights need modalities of equal channels, got {counts}. Set '
                '`channels=3` in mmir.LoadPairedImages, which repeats a gray image, '
                'and in the preprocessor'
            )
        return there[0] if len(there) == 1 else torch.cat(there)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Split what a network made of a stack: modality -> (its samples, ...)."""
        sizes = [len(rows) for rows in self.rows.values()]
        return dict(zip(self.rows, x.split(sizes), strict=True))

    def where(self, name: str, rows: Sequence[int]) -> list[int]:
        """Positions of samples among those that have a modality."""
        place = {row: k for k, row in enumerate(self.rows[name])}
        return [place[row] for row in rows]

    def together(
        self,
        parts: Mapping[str, Tensor],
        function: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Apply a function of all modalities to the samples that have several.

        Args:
            parts: Modality -> map of its samples, as :meth:`split` returns them.
            function: Is given maps of the same samples, and returns as many.

        Returns:
            Modality -> map of its samples. Those of samples with a single modality are
            not changed.
        """
        if self.complete:
            return dict(function(dict(parts))) if len(parts) > 1 else dict(parts)
        pieces: dict[str, list[tuple[Tensor, Rows]]] = {name: [] for name in parts}
        for subset, rows in self.groups().items():
            same = {n: select(parts[n], self.where(n, rows)) for n in subset}
            for name, x in (function(same) if len(same) > 1 else same).items():
                pieces[name].append((x, rows))
        return {name: in_order(found) for name, found in pieces.items()}


class ModalityRoute:
    """The presence of the batch that a shared network is running on.

    All :class:`ModalityNorm` layers of a network share one. Outside of a run it is
    empty.

    Args:
        names: All modalities, in channel order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._presence: Presence | None = None

    @property
    def presence(self) -> Presence:
        """Presence of the batch.

        Raises:
            RuntimeError: The network was called directly.
        """
        if self._presence is None:
            raise RuntimeError(
                'this network has layers per modality: call the whole model, which '
                'says what its images are of'
            )
        return self._presence

    def enter(self, presence: Presence) -> None:
        """Begin a run."""
        self._presence = presence

    def leave(self) -> None:
        """End a run."""
        self._presence = None

    def run(
        self,
        network: Callable[[Tensor], Any],
        parts: Mapping[str, Tensor],
        presence: Presence,
    ) -> dict[str, tuple[Tensor, ...]]:
        """Run a shared network on the images that are present.

        Args:
            network: A backbone whose norms were separated, or one with a neck.
            parts: Modality -> (batch, C, H, W).
            presence: What is there.

        Returns:
            Modality -> feature maps of its samples.
        """
        self.enter(presence)
        try:
            outs = network(presence.stack(parts))
        finally:
            self.leave()
        levels = [presence.split(x) for x in as_levels(outs)]
        return {name: tuple(x[name] for x in levels) for name in presence.active}


def as_levels(outs: Any) -> tuple[Tensor, ...]:
    """The feature maps of a backbone, also if it returns a single one."""
    return (outs,) if isinstance(outs, Tensor) else tuple(outs)


def select(x: Tensor, rows: Sequence[int]) -> Tensor:
    """Select rows of `x`, without a copy if it is all of them in order."""
    if list(rows) == list(range(len(x))):
        return x
    return x.index_select(0, torch.tensor(rows, device=x.device))


def in_order(pieces: Sequence[tuple[Tensor, Sequence[int]]]) -> Tensor:
    """Join parts of a batch in the order of its samples.

    Args:
        pieces: Parts (n, ...), with the indices of their samples.
    """
    if len(pieces) == 1:
        return pieces[0][0]
    rows = [row for _, part in pieces for row in part]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    return select(torch.cat([x for x, _ in pieces]), order)
