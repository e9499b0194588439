"""Find and replace modules of a model by type and name."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mmengine.model import is_model_wrapper
from torch import nn
from torch.nn.parameter import is_lazy

HEADS = r'(^|\.)(\w+_)?heads?(\.|$)'
"""Regular expression that matches the names of heads in the hosts' models."""

Kind = TypeVar('Kind', bound=nn.Module)


def is_head(name: str) -> bool:
    """Check whether the name of a module or parameter belongs to a head."""
    return re.search(HEADS, name) is not None


def count_parameters(model: nn.Module) -> int:
    """Number of parameters (elements); shared ones count once, uninitialized as 0."""
    return sum(p.numel() for p in model.parameters() if not is_lazy(p))


def names_of(
    model: nn.Module, kind: type[Kind] | tuple[type[Kind], ...]
) -> Iterator[tuple[Kind, list[str]]]:
    """Yield the modules of a class, in order, each with all its names."""
    names: dict[Kind, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, kind):
            names[module].append(name)
    yield from names.items()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of distributed training."""
    while is_model_wrapper(model):
        model = model.module
    return model


def refuse_wrapped(model: nn.Module) -> None:
    """Reject a model of which any part is wrapped for distributed training.

    Raises:
        ValueError: It is wrapped; the wrapper would not see parameters added now.
    """
    for module in model.modules():
        if is_model_wrapper(module):
            raise ValueError(
                f'{type(module).__name__} knows the parameters the model has now and '
                'no new ones: change the model before it is wrapped'
            )


def converted(
    model: nn.Module, convert: Callable[[nn.Module], nn.Module | None]
) -> dict[nn.Module, nn.Module]:
    """Map each module to its replacement.

    Does not modify the model; pass the result to `replace_`.

    Args:
        model: Any model.
        convert: Returns the replacement of a module, or None to keep it.

    Returns:
        Module -> replacement.

    Raises:
        ValueError: `convert` raised one; the message begins with the module's name.
    """
    new = {}
    for name, module in model.named_modules():
        try:
            made = convert(module)
        except ValueError as error:
            raise ValueError(f'{name or "the layer"}: {error}') from error
        if made is not None:
            new[module] = made
    return new


def replace_(model: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Replace every child `module` by `new[module]`; shared modules stay shared."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]


class NameFilter:
    """Selects module names by regular expressions.

    Args:
        include: Expressions of which at least one must match; None selects all names.
        exclude: Expressions of which none may match; None stands for `HEADS`.

    Raises:
        TypeError: A string was given instead of a list of strings.
    """

    def __init__(
        self, include: Sequence[str] | None, exclude: Sequence[str] | None
    ) -> None:
        self.include = include
        self.exclude = (HEADS,) if exclude is None else exclude
        for patterns in (self.include, self.exclude):
            if isinstance(patterns, str):
                raise TypeError(f'give a list of expressions, not {patterns!r}')

    def reason(self, names: Sequence[str]) -> str | None:
        """Reason why a module with these names is not selected; None if it is."""
        for pattern in self.exclude:
            if any(re.search(pattern, name) for name in names):
                return f'excluded by {pattern!r}'
        if self.include is not None and not any(
            re.search(pattern, name) for pattern in self.include for name in names
        ):
            return 'matched by no include expression'
        return None
