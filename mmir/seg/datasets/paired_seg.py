"""Segmentation datasets of registered images with one label map per sample."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from mmir.data.layouts.seg import (
    LABEL,
    MissingFilesError,
    Sample,
    SegLayout,
    faults_message,
    listed_names,
    match_files,
    no_data_message,
)
from mmir.data.pairing import PairRule
from mmir.registry import DATASETS
from mmir.structures import PATHS, REFERENCE


@DATASETS.register_module()
class PairedSegDataset(BaseSegDataset):
    """Dataset of paired images and label maps, with one folder for each.

    The files of a sample share their stem, unless `rules` says how they differ. Any
    image suffix will do. Every file must exist when the dataset is built. With several
    modalities, a sample has `img_paths` for :class:`mmir.transforms.LoadPairedImages`;
    with one, it is an ordinary mmseg sample for the stock pipelines.

    Args:
        split (str): Name of a split, for subclasses with a known layout. It sets
            `ann_file` and `data_prefix` unless they are given.
        modality (str | Sequence[str]): 'both' for `('rgb', 'ir')`; one name; or
            several, the first of which is the `reference` (that of `img_path`).
        rules (Mapping[str, Mapping], optional): Modality -> arguments of
            :class:`mmir.data.pairing.PairRule` that derive its file name from the name
            in the list, or in the folders without a rule.
        missing (str): What to do if an image does not exist: 'raise', or 'absent' to
            set its path to None, which `LoadPairedImages` treats as an absent modality;
            these are counted in the log. The reference and the label map must exist.
        data_prefix (Mapping[str, str], optional): Folder of each modality and, under
            `seg_map_path`, of the label maps, below `data_root`.
        ann_file (str): Text file with one name per line. Without it, all files in the
            folders are used, and all must have their partners.
        allow_outside (bool): Allow names in the list that lead out of `data_root` and
            of the folders (absolute ones, `../`). Default: False, which refuses them.
        **kwargs: Arguments of mmseg's `BaseSegDataset`.

    Raises:
        MissingFilesError: Files are missing; says which, how many, and what to do.
        AnnotationError: Names in the list lead out of the data.
        ValueError: An option has an unknown value, or a folder is not given.
    """

    LAYOUT: SegLayout | None = None

    def __init__(
        self,
        *,
        split: str = 'train',
        modality: str | Sequence[str] = 'both',
        rules: Mapping[str, Mapping] | None = None,
        missing: Literal['raise', 'absent'] = 'raise',
        data_prefix: Mapping[str, str] | None = None,
        ann_file: str = '',
        allow_outside: bool = False,
        **kwargs: Any,
    ) -> None:
        if missing not in ('raise', 'absent'):
            raise ValueError(f"missing must be 'raise' or 'absent', got {missing!r}")
        self.split, self.missing, self.allow_outside = split, missing, allow_outside
        self.modalities = _modalities(modality)
        self.rules = {key: PairRule(**row) for key, row in (rules or {}).items()}
        prefixes = dict(data_prefix or {})
        if self.LAYOUT is not None:
            root = kwargs.get('data_root') or ''
            prefixes = self.LAYOUT.prefixes(root, split) | prefixes
            ann_file = ann_file or self.LAYOUT.list_file(split)
            self.rules = {**self.LAYOUT.rules, **self.rules}
            kwargs.setdefault('reduce_zero_label', self.LAYOUT.reduce_zero_label)
        unknown = {*self.modalities, LABEL} - prefixes.keys()
        if unknown:
            raise ValueError(
                f'{type(self).__name__}: data_prefix names no folder for '
                f'{sorted(unknown)}, only for {sorted(prefixes)}'
            )
        wanted = {key: prefixes[key] for key in (*self.modalities, LABEL)}
        super().__init__(ann_file=ann_file, data_prefix=wanted, **kwargs)

    def list_names(self) -> list[str] | None:
        """Get the names of the samples.

        Returns:
            list[str] | None: Names in the list; None for all files in the folders.
        """
        if not self.ann_file:
            return None
        entry = '{}' if self.LAYOUT is None else self.LAYOUT.entry
        return listed_names(self.ann_file, self.data_prefix[LABEL], entry)[0]

    def load_data_list(self) -> list[dict]:
        """Find the files of all samples.

        Returns:
            list[dict]: Data info of mmseg, with `img_paths` and `reference` if there
            are several modalities.
        """
        title = type(self).__name__ if self.LAYOUT is None else self.LAYOUT.title
        self._require_something(title)
        below = '/' if self.allow_outside else self.data_root or None
        matches = match_files(self.data_prefix, self.list_names(), self.rules, below)
        absent = {}
        if self.missing == 'absent':
            partners = [key for key in self.modalities[1:] if key in matches.lacking]
            absent = {key: matches.lacking.pop(key) for key in partners}
        if matches.lacking or matches.twice:
            name = f'{title} ({self.split})' if self.LAYOUT else title
            raise MissingFilesError(faults_message(name, matches, self.data_prefix))
        for key, names in absent.items():
            self._say(f'{title}: {len(names)} samples without {key} image')
        official = self.LAYOUT and self.LAYOUT.split(self.split).count
        if official not in (None, len(matches.samples)):
            self._say(
                f'{title} ({self.split}): {len(matches.samples)} samples, officially '
                f'{official}'
            )
        return [self._info(sample) for sample in matches.samples]

    def _require_something(self, title: str) -> None:
        """Refuse a root that holds nothing of the dataset."""
        folders = self.data_prefix
        lists = not self.ann_file or os.path.isfile(self.ann_file)
        if lists and any(os.path.isdir(folder) for folder in folders.values()):
            return
        if self.LAYOUT is not None:
            root = self.data_root or '.'
            raise MissingFilesError(no_data_message(self.LAYOUT, root, self.split))
        gone = [path for path in folders.values() if not os.path.isdir(path)]
        gone += [] if lists else [self.ann_file]
        raise MissingFilesError(
            f'{title}: not found: {", ".join(gone)}. Check data_root, data_prefix and '
            'ann_file'
        )

    def _info(self, sample: Sample) -> dict:
        """Build the data info of a sample."""
        paths = {key: sample.paths[key] for key in self.modalities}
        info = {
            'img_path': paths[self.modalities[0]],
            LABEL: sample.paths[LABEL],
            'label_map': self.label_map,
            'reduce_zero_label': self.reduce_zero_label,
            'seg_fields': [],
        }
        if len(paths) > 1:
            info |= {PATHS: paths, REFERENCE: self.modalities[0]}
        return info

    @staticmethod
    def _say(text: str) -> None:
        print_log(text, logger='current', level=30)  # logging.WARNING


def _modalities(given: str | Sequence[str]) -> tuple[str, ...]:
    """Get the names of the requested modalities."""
    if given == 'both':
        return ('rgb', 'ir')
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"modality must be 'both', a name or distinct names, got {given!r}"
        )
    return names
