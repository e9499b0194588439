"""Test loop over subsets of the modalities."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from mmengine.registry import LOOPS
from torch import Tensor, from_numpy

from mmir.structures import MODALITIES, PATHS, PairError, drop_modalities
from mmir.transforms.missing import FILLS, Fill, stand_in

from .batches import change_modality, generator_of
from .tables import markdown
from .variant_loop import Variant, VariantTestLoop


@LOOPS.register_module()
class MissingModalityTestLoop(VariantTestLoop):
    """Test with every non-empty subset of the modalities, in one run.

    The other modalities are dropped from each batch as in
    :func:`mmir.structures.drop_modalities`: zero-filled and listed in
    `metainfo['absent']`. Metrics are prefixed with the subset: `ir/...`, `rgb+ir/...`.
    If a modality is replaced without telling the model, the prefix is
    `rgb+ir(zero)/...`. One table goes to the log and to `modality_subsets.md` and
    `.json` in the log folder.

    Use it as the test loop: ``test_cfg =
    dict(type='mmir.MissingModalityTestLoop')``. It would run as `val_cfg` too, but
    hooks that select checkpoints would not see its metrics.

    Args:
        *args (Any): See :class:`VariantTestLoop`.
        subsets (Sequence[Sequence[str]], optional): Subsets to test. Default: all.
        fills (Sequence[str]): How to drop modalities: 'absent' (the model is told) or,
            as robustness tests, 'zero' and 'noise' (zeros or uniform noise, without
            telling the model). See :class:`mmir.transforms.DropModality`.
        seed (int): Seed of the noise, which otherwise depends only on the image.
        **kwargs (Any): See :class:`VariantTestLoop`.

    Raises:
        ValueError: A fill is unknown, or a subset is empty.
        PairError: Samples are not paired, there is only one modality, a modality is
            unknown, or a subset leaves a sample without any modality.
    """

    stem = 'modality_subsets'

    def __init__(
        self,
        *args: Any,
        subsets: Sequence[Sequence[str]] | None = None,
        fills: Sequence[Fill] = ('absent',),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not fills or isinstance(fills, str) or set(fills) - set(FILLS):
            raise ValueError(
                f'MissingModalityTestLoop: fills must be some of {FILLS}, got {fills!r}'
            )
        for subset in subsets or ():
            if isinstance(subset, str) or not subset:
                raise ValueError(
                    'MissingModalityTestLoop: subsets must be sequences of names, such '
                    f"as [('ir',), ('rgb', 'ir')], got {subset!r}"
                )
        self.subsets, self.fills, self.seed = subsets, tuple(fills), seed

    def variants(self, meta: Mapping) -> dict[str, Variant]:
        """One variant per subset and fill, the complete set last."""
        names = tuple(meta[MODALITIES])
        if len(names) < 2:
            raise PairError(
                f'MissingModalityTestLoop: the test set has one modality, {names}, '
                'which cannot be dropped. Load more with mmir.LoadPairedImages, or use '
                'the plain TestLoop'
            )
        subsets = self.subsets or all_subsets(names)
        if unknown := {name for subset in subsets for name in subset} - {*names}:
            raise PairError(
                f'MissingModalityTestLoop: unknown modalities {sorted(unknown)} in '
                f'subsets, the test set has {names}'
            )
        variants = {}
        for subset in sorted(subsets, key=lambda subset: len({*subset})):
            gone = [name for name in names if name not in subset]
            for fill in self.fills if gone else FILLS[:1]:
                label = subset_label(names, subset, fill)
                variants[label] = partial(
                    take_away, gone=gone, fill=fill, seed=self.seed
                )
        return variants

    def tables(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> str:
        """One table: a row per variant, a column per metric."""
        rows = [
            [name, *(values.get(metric) for metric in metrics)]
            for name, values in results.items()
        ]
        return markdown(['modalities', *metrics], rows)

    def settings(self) -> dict[str, Any]:
        """dict[str, Any]: The seed."""
        return {'seed': self.seed}


def all_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Non-empty subsets, ordered by size and then by the order of the names."""
    sizes = range(1, len(names) + 1)
    return [subset for size in sizes for subset in combinations(names, size)]


def subset_label(names: Sequence[str], subset: Sequence[str], fill: Fill) -> str:
    """Name a variant: `ir` alone, or `rgb(zero)+ir` with RGB replaced by zeros."""
    if fill == 'absent':
        return '+'.join(name for name in names if name in subset)
    return '+'.join(name if name in subset else f'{name}({fill})' for name in names)


def take_away(batch: dict, gone: Sequence[str], fill: Fill, seed: int = 0) -> dict:
    """Drop modalities from a packed batch.

    Args:
        batch (dict): `inputs` and `data_samples` as the data loader yields them. Not
            modified.
        gone (Sequence[str]): Names of the modalities to drop.
        fill (str): 'absent', 'zero' or 'noise'; only 'absent' changes the metainfo.
        seed (int): Seed of the noise.

    Returns:
        dict: The batch.

    Raises:
        PairError: A modality is unknown, or a sample would have none left.
    """
    if fill == 'absent':
        try:
            return drop_modalities(batch, gone)
        except PairError as error:
            raise PairError(
                f'without {", ".join(gone)}: {error}, in one of '
                f'{_files(batch["data_samples"])}. Limit the subsets of '
                'MissingModalityTestLoop to those that every sample has, or remove '
                'incomplete samples from the test set'
            ) from error

    def change(img: Tensor, meta: Mapping) -> Tensor:
        """Make the replacement of one image."""
        rng = generator_of(meta, seed, f'{fill} {name}')
        return from_numpy(stand_in(img.numpy(), fill, rng))

    for name in gone:
        batch = change_modality(batch, name, change)
    return batch


def _files(samples: Sequence) -> list:
    """Paths of a batch, for error messages."""
    if isinstance(samples[0], list | tuple):
        samples = samples[0]
    return [dict(sample.metainfo.get(PATHS, {})) for sample in samples]
