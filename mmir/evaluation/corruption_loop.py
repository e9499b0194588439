"""Test loop over corrupted images."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mmengine.registry import LOOPS
from torch import Tensor

from mmir.structures import MODALITIES, PATHS, PairError

from .batches import change_modality, generator_of
from .corruptions import CORRUPTIONS, Span, corrupt
from .tables import markdown, mean
from .variant_loop import Variant, VariantTestLoop

CLEAN = 'clean'
_STRENGTHS = (1, 2, 3, 4, 5)


@LOOPS.register_module()
class CorruptionTestLoop(VariantTestLoop):
    """Test with corrupted images, one modality at a time, in one run.

    Runs one pass per corruption, modality and strength, then the clean images. Metrics
    are prefixed `rgb_low_light/3/...` and `clean/...`. Results:

    - one table per metric, in the log and in `corruptions.md` and `.json` in the log
      folder; columns are strengths, 0 is clean, and the mean is over 1 and above
    - the curves, in `corruptions.png`

    The packed images, padding included, are corrupted in raw pixel values before the
    data preprocessor; labels and the other modalities are untouched. The random numbers
    of an image depend only on its file names and `seed`. Absent modalities are left
    alone. A test set with a single modality works too, so RGB-only models can be
    compared.

    Use it as the test loop: ``test_cfg =
    dict(type='mmir.CorruptionTestLoop', metrics=['coco/bbox_mAP'])``.

    Args:
        *args (Any): See :class:`VariantTestLoop`.
        corruptions (Mapping[str, Sequence[str]], optional): Modality -> kinds from
            :data:`mmir.evaluation.CORRUPTIONS`. Default: :func:`default_corruptions`.
        strengths (Sequence[int]): Strengths to test, from 1 to 5.
        seed (int): Seed of all random numbers.
        value_ranges (Mapping[str, tuple[float, float]], optional): Modality -> pixel
            values of black and white, for images that do not have 8 bits, such as
            ``dict(ir=(28315, 32315))``. Default: see
            :func:`mmir.evaluation.corrupt`.
        **kwargs (Any): See :class:`VariantTestLoop`.

    Raises:
        ValueError: A corruption or strength is unknown.
        PairError: Samples are not paired, or a modality is unknown.
    """

    stem = 'corruptions'

    def __init__(
        self,
        *args: Any,
        corruptions: Mapping[str, Sequence[str]] | None = None,
        strengths: Sequence[int] = _STRENGTHS,
        seed: int = 0,
        value_ranges: Mapping[str, Span] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        kinds = {kind for row in (corruptions or {}).values() for kind in row}
        if unknown := kinds - CORRUPTIONS.keys():
            raise ValueError(
                f'CorruptionTestLoop: unknown corruptions {sorted(unknown)}, known: '
                f'{[*CORRUPTIONS]}; set a list of them per modality'
            )
        if not strengths or set(strengths) - set(_STRENGTHS):
            raise ValueError(
                f'CorruptionTestLoop: strengths must be some of {_STRENGTHS}, got '
                f'{strengths}'
            )
        self.corruptions = corruptions
        self.strengths = tuple(sorted(strengths))
        self.seed = seed
        self.value_ranges = dict(value_ranges or {})

    def variants(self, meta: Mapping) -> dict[str, Variant]:
        """One variant per corruption and strength, the clean one last."""
        names = tuple(meta[MODALITIES])
        chosen = self.corruptions or default_corruptions(meta)
        if unknown := (chosen.keys() | self.value_ranges) - {*names}:
            raise PairError(
                f'CorruptionTestLoop: unknown modalities {sorted(unknown)} in '
                f'corruptions or value_ranges, the test set has {names}'
            )
        variants: dict[str, Variant] = {}
        for name, kinds in chosen.items():
            for kind in kinds:
                for strength in self.strengths:
                    change = partial(
                        self._corrupted, name=name, kind=kind, strength=strength
                    )
                    variants[f'{name}_{kind}/{strength}'] = change
        return variants | {CLEAN: lambda batch: batch}

    def _corrupted(self, batch: dict, name: str, kind: str, strength: int) -> dict:
        """Corrupt one modality of a batch."""
        span = self.value_ranges.get(name)

        def change(img: Tensor, meta: Mapping) -> Tensor:
            """Corrupt one image."""
            rng = generator_of(meta, self.seed, f'{name} {kind}')
            return corrupt(img, kind, strength, rng, span)

        return change_modality(batch, name, change)

    def tables(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> str:
        """One table per metric: a row per corruption, a column per strength."""
        head = ['corruption', '0', *map(str, self.strengths), 'mean']
        parts = []
        for metric in metrics:
            rows = [
                [name, *values, mean(values[1:])]
                for name, values in self._lines(results, metric).items()
            ]
            parts.append(f'{metric}:\n\n{markdown(head, rows)}')
        return '\n\n'.join(parts)

    def _lines(
        self, results: Mapping[str, Mapping], metric: str
    ) -> dict[str, list[float | None]]:
        """Corruption -> metric on clean images and per strength; None if unknown."""
        rows = dict.fromkeys(name.rpartition('/')[0] for name in results)
        keys = {
            row: [CLEAN, *(f'{row}/{strength}' for strength in self.strengths)]
            for row in rows
            if row
        }
        return {
            row: [results.get(key, {}).get(metric) for key in columns]
            for row, columns in keys.items()
        }

    def draw(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> None:
        """One plot per metric, with a curve over strengths for each corruption."""
        # imported here so that `import mmir` need not load matplotlib
        from mmir.visualization import save_curves

        x = (0, *self.strengths)
        plots = {
            metric: {
                name: (x, [math.nan if y is None else y for y in values])
                for name, values in self._lines(results, metric).items()
            }
            for metric in metrics
        }
        if plots:
            save_curves(f'{self.path_stem}.png', plots, 'strength')

    def settings(self) -> dict[str, Any]:
        """dict[str, Any]: Seed, strengths and the settings of all corruptions."""
        return {
            'seed': self.seed,
            'strengths': self.strengths,
            'levels': {kind: row.levels for kind, row in CORRUPTIONS.items()},
        }


def default_corruptions(meta: Mapping) -> dict[str, tuple[str, ...]]:
    """Get the default corruptions: noise, blur and those typical of a modality.

    These are low light for `rgb`, `washed_out` for `ir`, and a shift of every modality
    but the reference, which the labels belong to.

    Args:
        meta (Mapping): Metainfo of a sample. The reference is the modality whose file
            is `img_path`, else the first.

    Returns:
        dict[str, tuple[str, ...]]: Modality -> kinds.
    """
    names, paths = tuple(meta[MODALITIES]), meta.get(PATHS, {})
    same = [name for name in names if paths.get(name) == meta.get('img_path')]
    reference = same[0] if same else names[0]
    typical = {'rgb': ('low_light',), 'ir': ('washed_out',)}
    return {
        name: (
            'noise',
            'blur',
            *typical.get(name, ()),
            *(('misalignment',) if name != reference else ()),
        )
        for name in names
    }
