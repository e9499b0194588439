"""Let the hosts' Inferencers find `mmir.LoadThermalImage` in a test pipeline.

Why: mmdet and mmseg search the test pipeline for the type `LoadImageFromFile`, whatever
it does, and put another name in its place for arrays. mmir's loader is registered under
all of these names in scope `mmir`; here a pipeline that calls it by its own name is
changed to the name they look for.

Delete it when mmdet and mmseg find a loader by its class.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from types import ModuleType
from typing import Any

from .after_import import patch_after_import

_OWN = 'LoadThermalImage'


def rename_loader(pipeline: Iterable[Any]) -> None:
    """Call mmir's loader by the name that the hosts look for, in place.

    Args:
        pipeline (Iterable): Configs of the transforms.
    """
    for step in pipeline:
        kind = step.get('type') if isinstance(step, dict) else None
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        if name.rpartition('.')[2] == _OWN:
            step.update(type='LoadImageFromFile', _scope_='mmir')


def _before(function: Callable, look: Callable) -> Callable:
    """Wrap a function: rename the loader in the pipeline that `look` finds first."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        rename_loader(look(*args, **kwargs) or ())
        return function(*args, **kwargs)

    return wrapped


def _of_config(_: Any, cfg: Any, *args: Any, **kwargs: Any) -> Any:
    """Test pipeline in a config, as both Inferencers look it up."""
    return ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline')


def _patch_inferencer(module: ModuleType) -> None:
    """The model is built from the config just before the pipeline."""
    base = module.BaseInferencer
    base._init_model = _before(base._init_model, _of_config)


def _patch_mmdet(module: ModuleType) -> None:
    """`inference_detector` gets its pipeline from this function."""
    get = module.get_test_pipeline_cfg

    @wraps(get)
    def wrapped(cfg: Any) -> Any:
        pipeline = get(cfg)
        rename_loader(pipeline)
        return pipeline

    module.get_test_pipeline_cfg = wrapped


def _patch_mmseg(module: ModuleType) -> None:
    """`inference_model` reads `test_pipeline` of the model's config."""
    module._preprare_data = _before(
        module._preprare_data, lambda imgs, model: model.cfg.get('test_pipeline')
    )


def install() -> None:
    """Change the three functions once their modules are imported."""
    patch_after_import('mmengine.infer.infer', _patch_inferencer)
    patch_after_import('mmdet.apis.inference', _patch_mmdet)
    patch_after_import('mmseg.apis.inference', _patch_mmseg)
