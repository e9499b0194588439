"""Configs of re-identification at small scale, and a training step of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from mmir.testing import demo, demo_pairs, demo_people


def small_config(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **sizes: int
) -> Config:
    """The config with a small network, on a few synthetic images in a folder.

    Args:
        path: The config.
        folder: Folder for the images.
        monkeypatch: Changes the sizes of the demo.
        **sizes: Sizes of the demo of people that differ, such as `WIDTH`.
    """
    monkeypatch.setattr(demo, 'DATA', folder)
    for name, value in {**dict(TRAIN=4, TEST=3, IMAGES=1), **sizes}.items():
        monkeypatch.setattr(demo_people, name, value)
    for name, value in dict(TRAIN=3, TEST=2).items():
        monkeypatch.setattr(demo_pairs, name, value)
    cfg = demo.apply_demo(Config.fromfile(path), str(folder / 'x'))
    for key in ('train_dataloader', 'test_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    return cfg


class Step(NamedTuple):
    """A model after a step, in eval mode, what it was given, and its losses."""

    model: nn.Module
    inputs: torch.Tensor | list
    losses: set[str]


def check_step(cfg: Config) -> Step:
    """One step changes the weights, and every trainable parameter gets a gradient."""
    model = MODELS.build(cfg.model)
    model.init_weights()
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    trained = [(k, p) for k, p in model.named_parameters() if p.requires_grad]
    assert [k for k, p in trained if p.grad is None] == []
    before = [p.detach().clone() for _, p in trained]
    optim.step()
    assert any(not torch.equal(a, p) for a, (_, p) in zip(before, trained, strict=True))
    names = {name for name in losses if name.startswith('loss')}
    return Step(model.eval(), data['inputs'], names)
