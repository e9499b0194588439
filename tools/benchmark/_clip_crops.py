"""Classification of paired object crops (`street_pairs`): person, bicycle, car.

Too few steps to need a host's runner: crops stay in memory, the head is a linear layer
on the class token.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from _clip_rows import COLORS, HEAD_RATE, Row, backbone, built, method_of
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmir.adapters import adapt_, undecayed
from mmir.engine.autocast import has_bfloat16

CLASSES = 'person', 'bicycle', 'car'
SIZE, STORED = 112, 128  # pixels of the input, and of a stored crop
SHORTEST = 24  # pixels of the longer side of a box
CONTEXT = 1.3  # side of a crop, by the longer side of its box
SHOTS, STEPS, BATCH = 20, 120, 12
METRIC = 'macro accuracy'


class Classifier(nn.Module):
    """Backbone and linear head on the class token.

    Args:
        net: Backbone that returns class tokens.
        reads: What it reads, see `Row`.
    """

    def __init__(self, net: nn.Module, reads: str) -> None:
        super().__init__()
        self.backbone, self.reads = net, reads
        self.head = nn.Linear(768 * (1 + (reads == 'two')), len(CLASSES))
        mean, std = (torch.tensor(COLORS[k] * 2).view(6, 1, 1) for k in COLORS)
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)

    def normalize(self, crops: Tensor) -> Tensor:
        """Normalize crops (N, 6, H, W), uint8, RGB before infrared."""
        return (crops.float() - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of normalized pairs (N, 6, H, W)."""
        parts = dict(rgb=[x[:, :3]], ir=[x[:, 3:]], two=[x[:, :3], x[:, 3:]])
        tokens = [self.backbone(p)[-1] for p in parts.get(self.reads, [x])]
        return self.head(torch.cat(tokens, 1))


def crop_pairs(data: Path, split: str) -> tuple[list[tuple], Callable[[tuple], Tensor]]:
    """List the objects of a split, and a reader of their crops.

    Returns:
        Objects (index of the image, file name, box, class), and a function from an
        object to its crop (6, `STORED`, `STORED`), uint8.
    """
    folder = data / 'street_pairs' / split
    content = json.loads((folder / 'fused_annotations.json').read_text())
    names = {c['id']: c['name'] for c in content['categories']}
    images = {row['id']: k for k, row in enumerate(content['images'])}
    files = {row['id']: row['file_name'] for row in content['images']}
    objects = [
        (images[a['image_id']], files[a['image_id']], tuple(a['bbox']), label)
        for a in content['annotations']
        if max(a['bbox'][2:]) >= SHORTEST
        and (label := names[a['category_id']]) in CLASSES
    ]

    def read(row: tuple) -> Tensor:
        _, file, (x, y, w, h), _ = row
        stem = Path(file).stem
        side = CONTEXT * max(w, h)
        corner = np.float32([x + w / 2 - side / 2, y + h / 2 - side / 2])
        scale = STORED / side
        matrix = np.float32([[scale, 0, 0], [0, scale, 0]])
        matrix[:, 2] = -scale * corner
        parts = []
        for camera in 'RGB', 'thermal_8_bit':
            path = next((folder / camera).glob(f'{stem}.*'))
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1]
            crop = cv2.warpAffine(
                image, matrix, (STORED, STORED), borderMode=cv2.BORDER_REPLICATE
            )
            parts.append(torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1))
        return torch.cat(parts)

    return objects, read


def sets(data: Path, held: bool, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crops and labels: `SHOTS` of each class for training, all of the test images."""
    objects, read = crop_pairs(data, 'train')
    if held:
        check = [row for row in objects if row[0] % 3 == 2]
        objects, read_test = [row for row in objects if row[0] % 3 != 2], read
    else:
        check, read_test = crop_pairs(data, 'val')
    by_class = defaultdict(list)
    for row in objects:
        by_class[row[3]].append(row)
    rng = np.random.default_rng(seed)
    chosen = [
        by_class[name][k]
        for name in CLASSES
        for k in rng.permutation(len(by_class[name]))[:SHOTS]
    ]
    labels = [
        torch.tensor([CLASSES.index(row[3]) for row in rows])
        for rows in (chosen, check)
    ]
    train = torch.stack([read(row) for row in chosen])
    test = torch.stack([read_test(row) for row in check])
    return train, labels[0], test, labels[1]


def augmented(crops: Tensor, rng: torch.Generator) -> Tensor:
    """Flip and shift crops at random, to `SIZE`."""
    top, left = torch.randint(STORED - SIZE + 1, (2,), generator=rng).tolist()
    crops = crops[..., top : top + SIZE, left : left + SIZE]
    flip = torch.rand(len(crops), generator=rng) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1).to(crops.device), crops.flip(-1), crops)


def classifier(row: Row, choice: dict, weights: Path) -> Classifier:
    """Build the classifier of a row."""
    net = built(row, backbone(weights, out_type='cls_token'), choice)
    model = Classifier(net, row.reads)
    if row.adapt is not None and row.reads in ('sum', 'prompts'):
        options = method_of(row, choice, ['^head'])
        kind = options.pop('type')
        stage = {k: options.pop(k) for k in ('trainable', 'norm') if k in options}
        adapt_(model, MODELS.build(dict(type=f'mmir.{kind}', **options)), **stage)
    return model


def optimizer_of(model: Classifier, rates: dict[str, float]) -> torch.optim.Optimizer:
    """AdamW with the rates of `rates_by_name`; vectors do not decay."""
    exempt = undecayed(model)
    groups: dict[tuple, list] = defaultdict(list)
    for name, p in model.named_parameters():
        if p.requires_grad:
            part = max((k for k in rates if k in name), key=len, default='head')
            decays = p.ndim > 1 and id(p) not in exempt
            groups[part, decays].append(p)
    return torch.optim.AdamW(
        [
            dict(
                params=params,
                lr=rates.get(part, HEAD_RATE),
                weight_decay=0.05 if decays else 0.0,
            )
            for (part, decays), params in groups.items()
        ]
    )


def run(
    row: Row, choice: dict, rates: dict, seed: int, held: bool, folders: tuple
) -> tuple[Classifier, dict]:
    """Train and test a row; returns the model and its measured values."""
    data, weights = folders
    torch.manual_seed(seed)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = classifier(row, choice, weights).to(device)
    crops, labels, test, truth = (t.to(device) for t in sets(data, held, seed))
    optimizer = optimizer_of(model, rates)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [g['lr'] for g in optimizer.param_groups],
        total_steps=STEPS,
        pct_start=0.05,
        cycle_momentum=False,
    )
    rng = torch.Generator().manual_seed(seed)
    fast = has_bfloat16(device)
    model.train()
    for _ in range(STEPS):
        pick = torch.randint(len(crops), (BATCH,), generator=rng).to(device)
        x = model.normalize(augmented(crops[pick], rng))
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            logits = model(x)
        loss = cross_entropy(logits.float(), labels[pick])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    subsets = ('rgb+ir',) if held else ('rgb+ir', 'rgb', 'ir')
    return model, accuracies(model, test, truth, subsets, fast)


@torch.no_grad()
def accuracies(
    model: Classifier, test: Tensor, truth: Tensor, subsets: Sequence[str], fast: bool
) -> dict:
    """Mean of the accuracies of the classes, with both images or one of them.

    Args:
        model: Classifier, in evaluation mode.
        test: Crops (N, 6, `STORED`, `STORED`), uint8.
        truth: Indices of their classes (N,), int64.
        subsets: Of 'rgb+ir', 'rgb' and 'ir'; the first one gives `score`.
        fast: Compute in bfloat16, as in training.
    """
    edge = (STORED - SIZE) // 2
    x = model.normalize(test[..., edge : edge + SIZE, edge : edge + SIZE])
    values = {}
    for name in subsets:
        images = x.clone()
        if 'rgb' not in name:
            images[:, :3] = 0
        if 'ir' not in name:
            images[:, 3:] = 0
        with torch.autocast(x.device.type, torch.bfloat16, enabled=fast):
            found = torch.cat([model(part).argmax(1) for part in images.split(32)])
        hits = (found == truth).double()
        per_class = [hits[truth == k].mean() for k in range(len(CLASSES))]
        values[name] = float(torch.stack(per_class).mean())
    return dict(score=values[subsets[0]], subsets=values)
