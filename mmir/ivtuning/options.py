"""Options of IV-tuning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Variant = Literal['hybrid', 'mp']
Main = Literal['rgb', 'ir']
PromptUpdate = Literal['block', 'stage']


@dataclass(frozen=True)
class Options:
    """Options of IV-tuning, the same for all layers of a backbone; see `IVTuning`."""

    variant: Variant = 'hybrid'
    rank: int = 64
    prompt_rank: int = 8
    shared: bool = True
    prompt_update: PromptUpdate | None = None
    norm_cfg: Mapping[str, Any] | None = None
    zero_init: bool = False
    frozen_eval: bool = False
    main: Main = 'rgb'

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(f'variant {self.variant!r}, use {get_args(Variant)}')
        if self.main not in get_args(Main):
            raise ValueError(f'main {self.main!r}, use {get_args(Main)}')
        if self.prompt_update not in (None, *get_args(PromptUpdate)):
            known = get_args(PromptUpdate)
            raise ValueError(f'prompt_update {self.prompt_update!r}, use {known}')
        for key in ('rank', 'prompt_rank'):
            value = getattr(self, key)
            if not isinstance(value, int) or value < 4:
                raise ValueError(f'{key} {value!r} is not an integer of 4 or more')
