"""`AdapterLayer`, the interface of all adapter layers.

Model surgery, freezing, adapter files, merging and the optimizer rely on this class
alone. A new method subclasses it and needs no code anywhere else.
"""

import copy
import os
import re
import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from .plain import why_not_plain

KINDS: dict[str, type['AdapterLayer']] = {}
"""All adapter layer classes by name, which is how adapter files refer to them."""


class AdapterLayer(nn.Module):
    """Base layer with named adapters, each of which can be switched off.

    Subclasses declare the class attributes, implement `add_adapter`,
    `adapter_options`, `merge` and `merge_state`, and apply the `active` adapters to the
    base in `forward`. The base keeps its state dict keys, so plain checkpoints load. An
    adapter is a module with a plain (non-tensor) attribute `enabled`; its state dict
    keys begin with `<container>.<name>`.

    Adapter files refer to a layer by its class name. A second adapter layer of the same
    name is a TypeError, unless it is the same class again, from a reloaded module.

    Attributes:
        stands_on: Exact types of the modules that `from_base` accepts, such as
            `PLAIN_CONVS`; empty for layers that a model is built with.
        container: Name of the `nn.ModuleDict` that holds the adapters.
        adapter_parameters: Names of an adapter's parameters, including those of its
            submodules.
        no_decay: Names of parameters, of an adapter, its submodules or the layer
            itself, that get no weight decay.
        derived: Tensors that `base_tensors` computes, by name -> names of the
            parameters they are computed from.
    """

    stands_on: ClassVar[tuple[type[nn.Module], ...]] = ()
    container: ClassVar[str] = 'adapters'
    adapter_parameters: ClassVar[tuple[str, ...]] = ()
    no_decay: ClassVar[tuple[str, ...]] = ()
    derived: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, combined: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if combined:  # with a host's class, under the name of its adapter layer
            return
        known = KINDS.get(cls.__name__, cls)
        if _origin(known) != _origin(cls):
            raise TypeError(
                f'there is an adapter layer {cls.__name__} already, in '
                f'{known.__module__}: adapter files refer to layers by that name, so '
                f'give the one in {cls.__module__} another'
            )
        KINDS[cls.__name__] = cls

    @classmethod
    def from_base(cls, module: nn.Module) -> 'AdapterLayer':
        """Create the adapter layer for a plain module; see `take_over`.

        Args:
            module: The module; not modified. Its tensors are shared.

        Returns:
            Layer without adapters that computes the same as `module`. It has the
            attributes of the module, and its type as `original`.

        Raises:
            ValueError: The exact type of `module` is not in `stands_on`, or its weights
                are computed, see `why_not_plain`.
        """
        if type(module) not in cls.stands_on:
            raise ValueError(
                f'a {cls.__name__} cannot stand on a {type(module).__name__}'
                + ('' if cls.stands_on else ': build the model with it first')
            )
        if reason := why_not_plain(module, cls.stands_on):
            raise ValueError(
                f'a {cls.__name__} cannot stand on this {type(module).__name__}: '
                f'{reason}'
            )
        layer = take_over(cls, module)
        layer.original = type(module)
        layer.add_module(cls.container, nn.ModuleDict().train(module.training))
        return layer

    def release(self) -> nn.Module:
        """Recreate the plain module that `from_base` was given, without adapters.

        Returns:
            The module; it shares its tensors with this layer, which is not modified.
        """
        module = take_over(self.original, self)
        del module.__dict__['original'], module._modules[self.container]
        return module

    def add_adapter(self, name: str, **options: Any) -> None:
        """Add a trainable adapter that does not change the output yet.

        Its parameters have the device and dtype of the base.

        Args:
            name: Name of the adapter, such as `ir`; see `check_name`.
            **options: Options of the method, as returned by `adapter_options`.

        Raises:
            ValueError: Invalid name or option. The layer is unchanged then.
        """
        raise NotImplementedError

    def adapter_options(self, name: str) -> dict[str, Any]:
        """Options with which `add_adapter` recreates the adapter; plain types."""
        raise NotImplementedError

    def merge(self) -> nn.Module:
        """Create the plain module equivalent to this layer, which is not modified.

        Adapters that are switched off are left out. The module may have parameters
        that the base lacks, such as a bias. Modified tensors are not shared.

        Raises:
            ValueError: NaN or infinite weights, or the method cannot be merged; the
                message says which.
        """
        raise NotImplementedError

    @classmethod
    def merge_state(
        cls,
        state: Mapping[str, Tensor],
        told: Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> dict[str, Tensor]:
        """Merge the tensors of all layers of this class in a state dict.

        There are only keys here, no modules, so a class recognizes its own tensors by
        `container` and the names of its parameters. A state dict does not record
        whether an adapter is switched off; all are merged.

        Args:
            state: State dict of a whole model; not modified.
            told: `_metadata` of the state dict, by module name.
            **options: Values to use where `told` has none; unknown ones are ignored.

        Returns:
            State dict of the merged model; unrelated entries are the same tensors. By
            default nothing is merged.
        """
        return dict(state)

    def base_tensors(self) -> dict[str, tuple[Tensor, str]]:
        """Tensors that identify the base, including adapters that are switched on.

        Returns:
            Name -> tensor and a note, which is compared literally. By default the state
            dict without the adapters that are switched off.
        """
        off = [
            f'{self.container}.{name}.'
            for name, adapter in self.named_adapters()
            if not adapter.enabled
        ]
        return {
            key: (tensor, '')
            for key, tensor in self.state_dict().items()
            if isinstance(tensor, Tensor) and not key.startswith(tuple(off))
        }

    def named_adapters(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield (name, adapter) in the order they were added."""
        yield from getattr(self, self.container).items()

    def active(self) -> list[nn.Module]:
        """The adapters that are switched on."""
        return [adapter for _, adapter in self.named_adapters() if adapter.enabled]

    def enable_adapter(self, name: str, on: bool = True) -> None:
        """Switch an adapter on or off; off restores the former output bit for bit.

        Raises:
            KeyError: There is no such adapter.
        """
        adapters = getattr(self, self.container)
        if name not in adapters:
            raise KeyError(f'no adapter {name!r}, there are {list(adapters)}')
        adapters[name].enabled = on

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter."""
        del getattr(self, self.container)[name]

    def connect(self, model: nn.Module) -> None:
        """Find what this layer shares with others; called when it is in the model.

        Default: nothing. What is shared must survive copies and pickling of the model.
        """

    def check_name(self, name: str) -> None:
        """Check the name of a new adapter.

        Raises:
            ValueError: It is taken or not an identifier.
        """
        word = isinstance(name, str) and re.fullmatch(r'[A-Za-z_]\w*', name)
        if not word or hasattr(nn.ModuleDict, name):
            raise ValueError(f'{name!r} cannot name an adapter, use a word such as ir')
        if name in getattr(self, self.container):
            raise ValueError(f'there is an adapter {name!r} already, give another name')


def take_over(cls: type[nn.Module], module: nn.Module) -> nn.Module:
    """Create a module of another class with the tensors, flags and hooks of a module.

    Args:
        cls: Class of the result; its `__init__` is not called.
        module: Source module; not modified.

    Returns:
        The new module. It shares tensors and children, but not the dicts that hold
        them.
    """
    made = cls.__new__(cls)
    made.__dict__.update(module.__dict__)
    for table in ('_parameters', '_buffers', '_modules'):
        made.__dict__[table] = copy.copy(module.__dict__[table])
    hooks = made.__dict__['_load_state_dict_pre_hooks']
    if any(getattr(hook, 'with_module', False) for hook in hooks.values()):
        bound = type(hooks)((key, _bound(hook, made)) for key, hook in hooks.items())
        made.__dict__['_load_state_dict_pre_hooks'] = bound
    return made


def _bound(hook: Any, module: nn.Module) -> Any:
    """Bind a hook on loading, which torch binds to a module weakly, to another one."""
    if getattr(hook, 'with_module', False):
        hook = copy.copy(hook)
        hook.module = weakref.ref(module)
    return hook


def carry_hooks(module: nn.Module, made: nn.Module) -> nn.Module:
    """Give the forward and backward hooks of a module to the one that replaces it.

    The tables of hooks are shared, so `remove()` of their handles still works. Hooks on
    the state dict stay behind, since its keys differ.

    Args:
        module: Source module; not modified.
        made: New module without hooks.

    Returns:
        `made`.
    """
    for table, hooks in vars(module).items():
        if 'hook' in table and 'state_dict' not in table:
            made.__dict__[table] = hooks
    return made


def _origin(cls: type) -> tuple[str, str]:
    """File and name of a class, which a second import of the file has in common."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, '__file__', None)
    return os.path.realpath(file) if file else cls.__module__, cls.__qualname__


def undecayed(model: nn.Module) -> set[int]:
    """Ids of the parameters that adapter layers exempt from weight decay."""
    ids: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):
            adapters = [adapter for _, adapter in layer.named_adapters()]
            for owner in (layer, *(m for a in adapters for m in a.modules())):
                own = dict(owner.named_parameters(recurse=False))
                ids |= {id(own[name]) for name in layer.no_decay if name in own}
    return ids
