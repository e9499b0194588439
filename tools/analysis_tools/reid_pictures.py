"""Pictures of a re-identification model: ranked lists, features, distances, attention.

    python tools/analysis_tools/reid_pictures.py CONFIG CHECKPOINT
    python tools/analysis_tools/reid_pictures.py CONFIG CHECKPOINT --pictures ranks

Runs the model once on all test images. Writes, as asked,

- ranks.png: some queries and their nearest gallery images, right ones framed green;
- embedding.png: features of some people in a plane, by t-SNE (needs scikit-learn) or
  UMAP (needs umap-learn);
- distances.png: distances across modalities, of the same person and of other people;
- attention.png: energy of the feature maps, and for TMPA the attention of MFT;

and pictures.json with the images in the ranked lists and the mean distances.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _networks import build_network, networks_of
from _reid_maps import map_rows
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.nn.functional import normalize
from tqdm import tqdm

import mmir  # noqa: F401 - before any host: it stands in for missing mmcv operators
from mmir.cli import cli
from mmir.data.images import read_image
from mmir.engine.training_split import require_split, training_split
from mmir.evaluation import (
    Protocol,
    cosine_distances,
    draw_galleries,
    get_protocol,
    load_permutations,
    ranked_lists,
)
from mmir.evaluation.feature_metric import FIELDS
from mmir.utils.checkpoint import load_checkpoint
from mmir.utils.errors import UserError
from mmir.utils.files import write_json
from mmir.visualization.color_maps import to_display
from mmir.visualization.features import save_map_figure
from mmir.visualization.people import (
    Match,
    save_distance_figure,
    save_embedding_figure,
    save_ranked_figure,
)
from mmir.visualization.pipeline_stages import build_dataset

FILES = {
    'ranks': 'ranks.png',
    'embedding': 'embedding.png',
    'distances': 'distances.png',
    'attention': 'attention.png',
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('config', help=cli.CONFIG_HELP)
    add('checkpoint', help='weights of the model')
    add('--pictures', nargs='+', choices=FILES, default=[*FILES])
    add('--protocol', help='default: the first of the test evaluator')
    add('--number', type=int, default=6, help='random people to search for')
    add('--top', type=int, default=10, help='length of the ranked lists')
    add('--people', type=int, default=20, help='people in the embedding')
    add('--method', choices=('tsne', 'umap'), default='tsne', help='of the embedding')
    add('--batch-size', type=int, default=32)
    add('--seed', type=int, default=0)
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--out', type=Path, default=Path('work_dirs/reid_pictures'))
    cli.add_cfg_options(parser)
    return parser.parse_args(arguments)


class Found:
    """Features and labels of all test images, as one trial of a protocol sees them.

    Args:
        model: The model.
        dataset: The test dataset.
        evaluator: Config of :class:`mmir.evaluation.VIReIDMetric`, or a list with one.
        args: Arguments of the command line.
    """

    def __init__(
        self, model: nn.Module, dataset: Any, evaluator: Any, args: argparse.Namespace
    ) -> None:
        evaluator = metric_of(evaluator)
        self.rules = protocol_of(evaluator, args.protocol)
        samples = run(model, dataset, args.batch_size)
        field = evaluator.get('feature', 'feature')
        gone = [name for name in (field, *FIELDS) if name not in samples[0]]
        if gone:
            raise UserError(f'samples of the test set lack {", ".join(gone)}')
        self.features = torch.stack([s.get(field).flatten() for s in samples]).double()
        columns = zip(*([s.get(name) for name in FIELDS] for s in samples), strict=True)
        pids, cams, modalities, self.paths = columns
        self.pids, self.cams = np.array(pids), np.array(cams)
        self.modalities = np.array(modalities)
        asked = self.modalities == self.rules.query
        self.query, pool = np.flatnonzero(asked), np.flatnonzero(~asked)
        if not len(self.query) or not len(pool):
            raise UserError(f'{self.rules.name} needs images of both modalities')
        path = evaluator.get('permutations')
        names = [self.paths[k] for k in pool]
        galleries = draw_galleries(
            self.rules,
            self.pids[pool],
            self.cams[pool],
            names,
            load_permutations(path) if path else None,
        )
        self.gallery = pool[galleries[0]]
        self.distances = cosine_distances(
            self.features[torch.as_tensor(self.query)],
            self.features[torch.as_tensor(self.gallery)],
        )

    def labels(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Identities and cameras of some images."""
        return self.pids[places], self.cams[places]

    def choose(self, number: int, seed: int) -> np.ndarray:
        """A random query each of random people of the gallery."""
        known = np.isin(self.pids[self.query], self.pids[self.gallery])
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(known))
        if not len(rows):
            raise UserError('no person is in both queries and gallery')
        _, first = np.unique(self.pids[self.query[rows]], return_index=True)
        return np.sort(rows[np.sort(first)[:number]])

    def picture(self, place: int) -> np.ndarray:
        """Image (H, W, 3), uint8, RGB."""
        return to_display(read_image(self.paths[place]))

    def lists(self, rows: np.ndarray, top: int) -> np.ndarray:
        """Ranked images (rows, top) of some queries; -1 where nothing is left."""
        found = ranked_lists(
            self.distances[torch.as_tensor(rows)],
            self.labels(self.query[rows]),
            self.labels(self.gallery),
            self.rules,
            top,
        ).numpy()
        return np.where(found < 0, -1, self.gallery[found])


def metric_of(evaluator: Any) -> dict:
    """Config of the metric of re-identification, of one or several metrics.

    Raises:
        UserError: There is none.
    """
    given = [evaluator] if isinstance(evaluator, dict) else evaluator
    for metric in given:
        if str(metric.get('type')).endswith('VIReIDMetric'):
            return metric
    raise UserError('the test evaluator has no VIReIDMetric; is it a re-identification '
                    'config?')  # fmt: skip


def protocol_of(evaluator: Any, name: str | None) -> Protocol:
    """Protocol by name, by default the first of an evaluator.

    Raises:
        UserError: There is none, it is unknown, or does not say what the queries are.
    """
    if name is None:
        given = evaluator.get('protocols') or ()
        given = [given] if isinstance(given, str | dict) else given
        if not given:
            raise UserError('the test evaluator names no protocol; use --protocol')
        name = given[0]
    rules = get_protocol(name)
    if rules.query is None or rules.swapped:
        raise UserError(f'{rules.name} has no ranked list of one modality in another')
    return rules


@torch.no_grad()
def run(model: nn.Module, dataset: Any, batch: int) -> list[Any]:
    """Samples of all images of a dataset, with features, on the CPU."""
    found = []
    for start in tqdm(range(0, len(dataset), batch), desc='features', disable=None):
        chosen = range(start, min(start + batch, len(dataset)))
        samples = model.test_step(pseudo_collate([dataset[k] for k in chosen]))
        found += [sample.cpu() for sample in samples]
    return found


def ranks(found: Found, args: argparse.Namespace, path: Path) -> list[dict]:
    """Draw the ranked lists; return them as paths."""
    rows = found.choose(args.number, args.seed)
    drawn, listed = [], []
    for row, order in zip(rows, found.lists(rows, args.top), strict=True):
        place, order = int(found.query[row]), [int(k) for k in order if k >= 0]
        pid = found.pids[place]
        matches = [
            Match(found.picture(k), caption(found, k), bool(found.pids[k] == pid))
            for k in order
        ]
        drawn.append((Match(found.picture(place), caption(found, place)), matches))
        entry = dict(query=found.paths[place], matches=[found.paths[k] for k in order])
        listed.append(dict(entry, right=[match.right for match in matches]))
    save_ranked_figure(path, drawn, f'{found.rules.name}, first trial')
    return listed


def caption(found: Found, place: int) -> str:
    """Identity and camera of an image."""
    return f'{found.pids[place]}, camera {found.cams[place]}'


def embedding(found: Found, args: argparse.Namespace, path: Path) -> None:
    """Draw the features of some people in a plane."""
    shared = np.intersect1d(found.pids[found.query], found.pids[found.gallery])
    order = np.random.default_rng(args.seed).permutation(len(shared))
    places = np.flatnonzero(np.isin(found.pids, shared[order[: args.people]]))
    if len(places) < 5:
        raise UserError(f'{len(places)} images are too few for an embedding')
    features = normalize(found.features[torch.as_tensor(places)], dim=1).numpy()
    points = in_plane(features, args.method, args.seed)
    names = found.modalities[places].tolist()
    title = f'features of both modalities, {args.method}'
    save_embedding_figure(path, points, found.pids[places].tolist(), names, title)


def in_plane(features: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Points (N, 2) of features (N, C).

    Raises:
        UserError: The library is not installed.
    """
    near = min(30, (len(features) - 1) // 3)
    try:
        if method == 'umap':
            from umap import UMAP

            reduce = UMAP(n_neighbors=near, metric='cosine', random_state=seed)
        else:
            from sklearn.manifold import TSNE

            reduce = TSNE(perplexity=near, metric='cosine', random_state=seed)
    except ImportError as error:
        package = dict(umap='umap-learn', tsne='scikit-learn')[method]
        raise UserError(f'the embedding needs `pip install {package}`') from error
    return np.asarray(reduce.fit_transform(features))


def distances(found: Found, args: argparse.Namespace, path: Path) -> dict[str, float]:
    """Draw the distances; return their means."""
    same = found.pids[found.query][:, None] == found.pids[found.gallery]
    values = (1 + found.distances).numpy()
    kinds = {'same person': values[same], 'other people': values[~same]}
    if not all(map(len, kinds.values())):
        raise UserError('the gallery needs people that are searched, and others')
    save_distance_figure(path, kinds, f'{found.rules.name}, first trial')
    return {name: float(values.mean()) for name, values in kinds.items()}


def attention(
    found: Found, args: argparse.Namespace, path: Path, model: nn.Module, dataset: Any
) -> None:
    """Draw maps of some queries and of an image of the same person."""
    places = []
    for row in found.choose(args.number, args.seed):
        query = int(found.query[row])
        right = found.gallery[found.pids[found.gallery] == found.pids[query]]
        places += [query, int(right[0])]
    batch = pseudo_collate([dataset[k] for k in places])
    pictures = [found.picture(k) for k in places]
    labels = [f'{found.pids[k]}, {found.modalities[k]}' for k in places]
    maps = map_rows(model, batch, pictures)
    rows = [
        (title, dict(zip(labels, shown, strict=True))) for title, shown in maps.items()
    ]
    save_map_figure(path, labels, rows, cell=(1.1, 2.1))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Draw the pictures; return what pictures.json holds."""
    args = parse(arguments)
    (network,) = networks_of([args.config, args.checkpoint], None, args.cfg_options)
    dataset = build_dataset(network.cfg, 'test')
    meta = load_checkpoint(args.checkpoint, map_location='meta').get('meta') or {}
    trained = training_split(meta.get('dataset_meta'))
    require_split(training_split(dataset.metainfo), trained)
    model = build_network(network).to(args.device)
    found = Found(model, dataset, network.cfg.test_evaluator, args)
    content: dict[str, Any] = dict(protocol=found.rules.name)
    draw = dict(ranks=ranks, embedding=embedding, distances=distances)
    for name in args.pictures:
        path = args.out / FILES[name]
        if name == 'attention':
            attention(found, args, path, model, dataset)
        elif (listed := draw[name](found, args, path)) is not None:
            content[name] = listed
        print(path)
    write_json(content, args.out / 'pictures.json', indent=1)
    return content


if __name__ == '__main__':
    sys.exit(cli.run(main))
