"""Shared by the paired transforms: how a modality is passed to a stock transform."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS

_OPAQUE = (str, bytes, int, float, type, FunctionType, ModuleType, np.ndarray)


def build_all(
    transforms: dict | Callable | Sequence[dict | Callable],
) -> list[Callable]:
    """Build one transform or several."""
    listed = transforms if isinstance(transforms, Sequence) else [transforms]
    return [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in listed]


def held_by(transform: Any) -> Iterator[tuple[str, Any]]:
    """Yield every object inside a transform, with the name of the class holding it."""
    stack, seen = [(type(transform).__name__, transform)], set()
    while stack:
        owner, item = stack.pop()
        if id(item) in seen or isinstance(item, _OPAQUE):
            continue
        seen.add(id(item))
        yield owner, item
        if isinstance(item, list | tuple | set):
            inside = item
        elif isinstance(item, Mapping):
            inside = item.values()
        else:
            owner, inside = type(item).__name__, getattr(item, '__dict__', {}).values()
        stack.extend((owner, value) for value in inside)


def as_color(img: np.ndarray) -> np.ndarray:
    """Repeat a single channel three times; leave other images as they are."""
    return cv2.merge([img] * 3) if img.shape[2] == 1 else img


def with_channels(img: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image back to (H, W, channels)."""
    if img.ndim == 3 and channels == 1 < img.shape[2]:
        img = cv2.extractChannel(img, 0)
    return img[..., None] if img.ndim == 2 else img
