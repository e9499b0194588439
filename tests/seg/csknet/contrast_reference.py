"""The contrastive loss, pair by pair, in float64."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmir.seg.csknet.contrast_memory import Samples


def loop_loss(
    anchors: Samples,
    others: Sequence[tuple[Samples, bool]],
    temperature: float = 0.1,
    base_temperature: float = 0.07,
) -> float:
    """Compute the loss of anchors; `others` says for each entry if it is theirs."""
    means = []
    for i, (a, y) in enumerate(zip(*arrays(anchors), strict=True)):
        positives, negatives = [], []
        for samples, own in others:
            for j, (b, z) in enumerate(zip(*arrays(samples), strict=True)):
                if own and i == j:
                    continue
                (positives if y == z else negatives).append(a @ b / temperature)
        pushed = sum(np.exp(q) for q in negatives)
        terms = [np.log(np.exp(p) + pushed) - p for p in positives]
        if terms:
            means.append(np.mean(terms))
    return temperature / base_temperature * float(np.mean(means)) if means else 0.0


def arrays(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    features, labels = samples
    return features.detach().double().numpy(), labels.numpy()


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random embeddings of length 1 along axis 1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=dtype)
    return x / x.norm(dim=1, keepdim=True)


def random_samples(
    count: int, classes: int, seed: int = 0, channels: int = 5
) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    return Samples(unit(count, channels, seed=seed), labels)
