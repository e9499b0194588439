"""Analyze the features of vision transformers on pairs: spectra, maps, frequencies.

    python tools/analysis_tools/features.py CONFIG CHECKPOINT
    python tools/analysis_tools/features.py A.py A.pth B.py B.pth --labels A B

Networks are configs, each followed by its checkpoints or adapter files; without one,
the weights are those of the config's init_cfg. All see the same pairs of the validation
set. Writes spectrum.png (principal components of the features through depth), maps.png
(energy of embeddings and features), frequency.png (power by spatial frequency) and
features.json.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _networks import Network, build_network, networks_of
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.runner import set_random_seed
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from tqdm import tqdm

import mmir  # noqa: F401 - before any host: it stands in for missing mmcv operators
from mmir.cli import cli
from mmir.data.images import ImageReadError
from mmir.evaluation.block_features import PROMPT, BlockFeatures
from mmir.evaluation.feature_frequency import energy_map, radial_power, tapered
from mmir.evaluation.feature_spectrum import (
    FeatureSpectrum,
    components_for,
    effective_rank,
)
from mmir.fusion.single_modality import layout_of
from mmir.structures import PairError
from mmir.utils.errors import UserError
from mmir.utils.files import few, write_json
from mmir.visualization.color_maps import to_display
from mmir.visualization.features import (
    DEPTH,
    save_frequency_figure,
    save_map_figure,
    save_spectrum_figure,
)
from mmir.visualization.labeled import packed_images
from mmir.visualization.pipeline_stages import build_dataset

FILES = ('spectrum.png', 'maps.png', 'frequency.png', 'features.json')
FIRST_PROMPT, LAST_BLOCK = 'first prompt', 'last block'
RINGS = 64
"""Number of frequency bins: equal width, up to the corner of the spectrum."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'networks',
        nargs='+',
        metavar='NETWORK',
        help=f'{cli.CONFIG_HELP}, followed by its checkpoints or adapter files',
    )
    parser.add_argument('--labels', nargs='+', help='name of each network in the plots')
    parser.add_argument('--number', type=int, default=32, help='random pairs to use')
    parser.add_argument('--maps', type=int, default=4, help='pairs to draw in maps.png')
    parser.add_argument('--seed', type=int, default=0, help='for pairs, random weights')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/features'))
    parser.add_argument('--force', action='store_true', help='overwrite results')
    cli.add_cfg_options(parser)
    return parser.parse_args(argv)


class RadialMean:
    """Mean of radial power spectra of maps of any sizes, relative to their variance."""

    def __init__(self) -> None:
        self.power, self.count = torch.zeros(2, RINGS, dtype=torch.float64)
        self.stride = 1.0

    def update(self, x: Tensor, stride: float = 1) -> None:
        """Add maps (N, C, H, W); frequencies are in cycles per `stride` pixels."""
        frequency, power, count = (v.cpu() for v in radial_power(tapered(x)))
        variance = (power * count).sum()
        if not variance:  # a black image, prompts that are zero at first
            return
        ring = (frequency / 0.5**0.5 * RINGS).long().clamp_max(RINGS - 1)
        self.stride = stride
        self.power.index_add_(
            0, ring[1:], (power * count)[1:] * x[0, 0].numel() / variance
        )
        self.count.index_add_(0, ring[1:], count[1:])

    def curve(self) -> tuple[list[float], list[float]]:
        """Frequencies in cycles per pixel and power (1 for white noise).

        Both are empty if all maps were constant.
        """
        there = self.count > 0
        centers = (torch.arange(RINGS) + 0.5) * 0.5**0.5 / RINGS / self.stride
        return centers[there].tolist(), (self.power / self.count)[there].tolist()


class Study:
    """Everything measured on one network.

    Args:
        network: The network.
        args: Arguments of the command line.
    """

    def __init__(self, network: Network, args: argparse.Namespace) -> None:
        self.network, self.args = network, args
        self.spectra: dict[str, FeatureSpectrum] = defaultdict(FeatureSpectrum)
        self.normalized: dict[str, FeatureSpectrum] = defaultdict(FeatureSpectrum)
        self.images: dict[str, RadialMean] = defaultdict(RadialMean)
        self.embeddings: dict[str, RadialMean] = defaultdict(RadialMean)
        self.rows: list[dict[str, np.ndarray]] = []
        self.files: list[str] = []

    def run(self) -> None:
        """Run the network on the chosen pairs.

        Raises:
            UserError: The validation set is empty, or a pair cannot be read.
        """
        dataset = build_dataset(self.network.cfg, 'val')
        if not len(dataset):
            raise UserError(f'{self.network.config}: the val dataset is empty')
        order = np.random.default_rng(self.args.seed).permutation(len(dataset))
        set_random_seed(self.args.seed)  # parts that no file has the weights of
        model = build_network(self.network).to(self.args.device)
        try:
            channels = layout_of(model)
        except ValueError:  # a network of one image
            channels = {}
        chosen = sorted(order[: self.args.number].tolist())
        with BlockFeatures(model, channels) as features:
            for index in tqdm(chosen, desc=self.network.label, disable=None):
                try:
                    sample = dataset[index]
                except (ImageReadError, PairError) as error:
                    raise UserError(f'sample {index}: {error}') from error
                run_backbone(model, sample)
                self.add(sample, features)

    def add(self, sample: dict, features: BlockFeatures) -> None:
        """Measure the features of a sample."""
        meta = sample['data_samples'].metainfo
        self.files.append(Path(str(meta.get('img_path'))).name)
        pictures = packed_images(sample['inputs'], meta)
        for name, picture in pictures.items():
            gray = torch.from_numpy(picture.astype(np.float64).mean(2))
            self.images[name].update(gray[None, None])
        for name, x in features.blocks.items():
            tokens = x.flatten(2).transpose(1, 2)
            self.spectra[name].update(tokens)
            # what the next block reads; a few tokens of huge norm do not decide here
            self.normalized[name].update(layer_norm(tokens, tokens.shape[-1:]))
        height = sample['inputs'].shape[1]
        for name, x in features.embeddings.items():
            self.embeddings[name].update(x, stride=height / x.shape[2])
        if len(self.rows) < self.args.maps:
            self.rows.append(panels(pictures, features))

    def report(self) -> dict[str, Any]:
        """Results of the network, as in features.json."""
        blocks = []
        for name, found in self.spectra.items():
            spectrum, normalized = found.spectrum(), self.normalized[name].spectrum()
            block = dict(
                name=name,
                tokens=found.count,
                effective_rank=effective_rank(spectrum),
                components_90=components_for(spectrum),
                normalized_effective_rank=effective_rank(normalized),
                normalized_components_90=components_for(normalized),
                spectrum=spectrum.tolist(),
            )
            blocks.append(block)
        path = self.network.checkpoint
        return dict(
            label=self.network.label,
            config=self.network.config,
            checkpoint=None if path is None else str(path),
            images=self.files,
            blocks=blocks,
            image_power={k: v.curve() for k, v in self.images.items()},
            embedding_power={k: v.curve() for k, v in self.embeddings.items()},
        )


@torch.no_grad()
def run_backbone(model: nn.Module, sample: dict) -> None:
    """Run the backbone of a model on a packed sample.

    Raises:
        UserError: It has no data preprocessor, or reads another number of channels.
    """
    data = pseudo_collate([sample])
    if getattr(model, 'data_preprocessor', None) is None:
        raise UserError(f'{type(model).__name__} has no data_preprocessor')
    inputs = model.data_preprocessor(data, False)['inputs']
    # without heads, sliding windows and test-time augmentation
    run = getattr(model, 'extract_feat', getattr(model, 'backbone', model))
    try:
        run(inputs)
    except RuntimeError as error:
        if 'channels' not in str(error):
            raise
        raise UserError(
            f'the backbone does not read {inputs.shape[1]} channels: wrap the model in '
            'mmir.SingleModality or mmir.EarlyFusion, or use IV-tuning'
        ) from error


def panels(
    pictures: dict[str, np.ndarray], features: BlockFeatures
) -> dict[str, np.ndarray]:
    """Pictures and energy maps of a sample."""
    found = {name: to_display(picture) for name, picture in pictures.items()}
    for name, x in features.embeddings.items():
        title = FIRST_PROMPT if name == PROMPT else f'embedding of {name}'
        found[title] = energy_map(x)[0].cpu().numpy()
    last = list(features.blocks.values())[-1]
    return found | {LAST_BLOCK: energy_map(last)[0].cpu().numpy()}


def map_rows(studies: Sequence[Study]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the rows of maps.png: per pair, one for each network."""
    for pair in zip(*(study.rows for study in studies), strict=True):
        for study, row in zip(studies, pair, strict=True):
            yield study.network.label, row


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    if args.number < 1 or args.maps < 1:
        raise UserError('--number and --maps must be at least 1')
    there = [name for name in FILES if (args.out / name).exists()]
    if there and not args.force:
        raise UserError(
            f'{args.out} already holds {few(there)}; choose another folder with --out, '
            'or use --force to overwrite'
        )
    # building a network logs a line per parameter
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    studies = []
    for network in networks_of(args.networks, args.labels, args.cfg_options):
        studies.append(Study(network, args))
        studies[-1].run()
        if studies[-1].files != studies[0].files:
            raise UserError(
                f'{network.config} validates on other images than '
                f'{studies[0].network.config}: compare networks on the same set'
            )
    reports = [study.report() for study in studies]
    write(args.out, studies, reports)
    for report in reports:
        ranks = [f'{block["effective_rank"]:.1f}' for block in report['blocks']]
        print(f'{report["label"]}: effective rank by block {", ".join(ranks)}')
    print(f'{", ".join(FILES)} in {args.out}')
    return dict(networks=reports)


def write(out: Path, studies: Sequence[Study], reports: Sequence[dict]) -> None:
    """Write all files."""
    write_json(dict(networks=list(reports)), out / 'features.json')
    lines = {}
    for report in reports:
        blocks = report['blocks']
        depth = {key: [block[key] for block in blocks] for key in DEPTH}
        lines[report['label']] = dict(depth, spectrum=blocks[-1]['spectrum'])
    save_spectrum_figure(out / 'spectrum.png', lines)
    rows = list(map_rows(studies))
    titles = dict.fromkeys(title for _, row in rows for title in row)
    last = [title for title in (FIRST_PROMPT, LAST_BLOCK) if title in titles]
    titles = [*(title for title in titles if title not in last), *last]
    save_map_figure(out / 'maps.png', titles, rows)
    save_frequency_figure(
        out / 'frequency.png',
        reports[0]['image_power'],
        {report['label']: report['embedding_power'] for report in reports},
    )


if __name__ == '__main__':
    raise SystemExit(cli.run(main))
