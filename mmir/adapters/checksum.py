"""Checksums of an adapter file: of every tensor, and of the metadata."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Adapter = dict[str, Any]


def checksum(tensor: Tensor) -> str:
    """SHA-256 of the dtype, shape and bytes of a tensor."""
    data = tensor.detach().cpu().contiguous()
    sha = hashlib.sha256(f'{data.dtype} {tuple(data.shape)}'.encode())
    sha.update(data.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def seal(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapter:
    """Combine metadata and tensors with their checksums.

    Args:
        meta: Metadata; plain types only.
        tensors: Tensors on the CPU by key.

    Returns:
        Content of an adapter file: `state_dict`, and `meta` with the `checksums` of the
        tensors and a `digest` of all metadata.
    """
    meta = {**meta, 'checksums': {k: checksum(t) for k, t in tensors.items()}}
    return {'meta': {**meta, 'digest': _digest(meta)}, 'state_dict': dict(tensors)}


def check_seal(adapter: Adapter) -> None:
    """Verify the checksums of an adapter.

    Raises:
        ValueError: It was modified or damaged; names the first such tensor.
    """
    meta = dict(adapter['meta'])
    if meta.pop('digest', None) != _digest(meta):
        raise ValueError('the metadata of the adapter is damaged: copy the file again')
    sums, tensors = meta['checksums'], adapter['state_dict']
    for key in sorted(sums.keys() | tensors.keys()):
        if key not in tensors or sums.get(key) != checksum(tensors[key]):
            raise ValueError(
                f'{key} of the adapter is damaged, its checksum differs: copy the '
                'file again'
            )


def _digest(meta: Mapping[str, Any]) -> str:
    """SHA-256 of plain metadata."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
