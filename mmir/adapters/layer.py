"""The contract between an adapter layer and what every method of adaptation shares.

Surgery, freezing, adapter files, merging and the optimizer know adapter layers by this
class alone. A new method declares its parameters here and writes no code there.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

KINDS: dict[str, type['AdapterLayer']] = {}
"""Every class of adapter layers by its name, as adapter files refer to it."""


class AdapterLayer(nn.Module):
    """A layer with named adapters on a base, each of which can be switched off.

    Subclasses declare the class attributes, implement `add_adapter`,
    `adapter_options`, `merge` and `merge_state`, and let `forward` apply what `active`
    holds to the base. The base keeps the keys it had before, so that plain checkpoints
    load. An adapter is a module with an attribute `enabled`, which is no tensor; it
    stands under `<container>.<name>` in the state dict.

    A file refers to a layer by the name of its class: give it one that no other class
    of adapter layers has.

    Attributes:
        stands_on: Exact types of the modules that `from_base` takes, such as
            `PLAIN_CONVS`; none for layers that a model is built with.
        container: Name of the `nn.ModuleDict` that holds the adapters.
        adapter_parameters: Names of the parameters of an adapter, those of modules
            within it included.
        no_decay: Names of parameters, of an adapter or of the layer itself, that get
            no weight decay.
        derived: Names of what `base_tensors` computes, and the parameters it is made
            of.
    """

    stands_on: ClassVar[tuple[type[nn.Module], ...]] = ()
    container: ClassVar[str] = 'adapters'
    adapter_parameters: ClassVar[tuple[str, ...]] = ()
    no_decay: ClassVar[tuple[str, ...]] = ()
    derived: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        KINDS[cls.__name__] = cls

    @classmethod
    def from_base(cls, module: nn.Module) -> 'AdapterLayer':
        """Make the layer that stands for a plain module; see `take_over`.

        Args:
            module: The module; it is not changed, its tensors are shared.

        Returns:
            A layer without adapters that computes what `module` does. Its attributes
            are those of the module, and `original`, the module's type.

        Raises:
            ValueError: The exact type of `module` is not in `stands_on`.
        """
        if type(module) not in cls.stands_on:
            raise ValueError(
                f'a {cls.__name__} cannot stand on a {type(module).__name__}'
                + ('' if cls.stands_on else ': build the model with it first')
            )
        layer = take_over(cls, module)
        layer.original = type(module)
        layer.add_module(cls.container, nn.ModuleDict().train(module.training))
        return layer

    def release(self) -> nn.Module:
        """Make the plain module again that `from_base` was given, without adapters.

        Returns:
            The module; tensors are shared with this layer, which stays.
        """
        module = take_over(self.original, self)
        del module.__dict__['original'], module._modules[self.container]
        return module

    def add_adapter(self, name: str, **options: Any) -> None:
        """Add an adapter that does not change the output yet.

        Its parameters have the device and dtype of the base, and train.

        Args:
            name: Its name, such as `ir`; see `check_name`.
            **options: Those of the method; `adapter_options` returns the same.

        Raises:
            ValueError: For a wrong name or option. The layer is unchanged then.
        """
        raise NotImplementedError

    def adapter_options(self, name: str) -> dict[str, Any]:
        """What `add_adapter` needs to make the adapter `name` again; plain types."""
        raise NotImplementedError

    def merge(self) -> nn.Module:
        """Make the plain module this layer computes; the layer stays.

        Adapters that are switched off are left out. The module may have parameters
        that the base has not, such as a bias; no tensor is shared that is changed.

        Raises:
            ValueError: For NaN or infinite weights, or if the method cannot merge, in
                these words.
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

        There are keys and no modules here, so a class knows its own tensors by
        `container` and the names of its parameters. Whether an adapter is switched off
        is in no state dict: it is merged.

        Args:
            state: State dict of a whole model; not changed.
            told: `_metadata` of the state dict, by name of the module.
            **options: What holds where `told` is silent; foreign ones are ignored.

        Returns:
            The state dict as that of the merged model; other entries are the same
            tensors. By default nothing belongs to this class.
        """
        return dict(state)

    def base_tensors(self) -> dict[str, tuple[Tensor, str]]:
        """What the base is recognized by, adapters that are switched on included.

        Returns:
            Tensor and a note, compared literally, by a name. By default the tensors
            of the state dict but those of adapters that are switched off.
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
        """Yield the adapters with their names, in the order they were added."""
        yield from getattr(self, self.container).items()

    def active(self) -> list[nn.Module]:
        """The adapters that are switched on."""
        return [adapter for _, adapter in self.named_adapters() if adapter.enabled]

    def enable_adapter(self, name: str, on: bool = True) -> None:
        """Switch an adapter on or off; off restores the former output bit for bit.

        Raises:
            KeyError: If there is no such adapter.
        """
        adapters = getattr(self, self.container)
        if name not in adapters:
            raise KeyError(f'no adapter {name!r}, there are {list(adapters)}')
        adapters[name].enabled = on

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter."""
        del getattr(self, self.container)[name]

    def check_name(self, name: str) -> None:
        """Check the name of an adapter to be added.

        Raises:
            ValueError: If it is taken or no identifier.
        """
        word = isinstance(name, str) and re.fullmatch(r'[A-Za-z_]\w*', name)
        if not word or hasattr(nn.ModuleDict, name):
            raise ValueError(f'{name!r} cannot name an adapter, use a word such as ir')
        if name in getattr(self, self.container):
            raise ValueError(f'there is an adapter {name!r} already, give another name')


def take_over(cls: type[nn.Module], module: nn.Module) -> nn.Module:
    """Make a module of another class with the tensors, flags and hooks of a module.

    Args:
        cls: Class of the result; its `__init__` is not called.
        module: Gives everything; not changed.

    Returns:
        The module. Tensors and children are shared, the tables of them are not.
    """
    made = cls.__new__(cls)
    made.__dict__.update(module.__dict__)
    for table in ('_parameters', '_buffers', '_modules'):
        made.__dict__[table] = copy.copy(module.__dict__[table])
    return made


def undecayed(model: nn.Module) -> set[int]:
    """Ids of the parameters that adapter layers exempt from weight decay."""
    ids: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):
            adapters = [adapter for _, adapter in layer.named_adapters()]
            for owner in (layer, *adapters):
                own = dict(owner.named_parameters(recurse=False))
                ids |= {id(own[name]) for name in layer.no_decay if name in own}
    return ids
