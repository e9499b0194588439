"""Contract suite: checks that every adaptation method must pass on every network.

To test a method, from mmir or your own, list its cases in a table::

    ROWS = [Case(network, ScaleAndShift, loss, outputs, part), ...]

    @pytest.mark.parametrize('check', CHECKS, ids=lambda check: check.__name__)
    @pytest.mark.parametrize('case', ROWS)
    def test_contract(case, check):
        check(case)

Each check raises an AssertionError that says what failed. Models are cached per `Case`:
create each case once and run its checks in turn. For a method from outside mmir see
`projects/example_project`.
"""

import copy
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmir.adapters import (
    AdapterLayer,
    Method,
    adapt_,
    adapter_state,
    load_adapter,
    load_adapter_state,
    merge_,
    merge_state_dict,
    save_adapter,
    stage_of,
    switch_adapter_,
    trainable_report,
    unload_adapter,
    unwrap,
)
from mmir.adapters.freeze import adapter_keys
from mmir.adapters.walk import names_of

NAME = 'ir'
TOLERANCE = 1e-4  # relative, for float32 networks about fifty layers deep


@dataclass(frozen=True)
class Case:
    """One method applied to one network.

    Args:
        network: Builds the plain network, always with the same weights.
        method: Builds the method.
        loss: Computes a scalar loss (graph attached) on a fixed batch. The model is in
            training mode and may be wrapped for distributed training.
        outputs: Computes the model's output tensors on a fixed batch, without
            gradients. The model is in evaluation mode.
        part: Returns a submodule with adapters and an example input, for tracing and
            gradient checkpointing. Its output is a tensor, or a list or tuple of them.
        prepare: Changes the network in place before the method is applied, e.g. by
            factorization. The result is the base of the adapter.
        stage: Arguments of `adapt_`: `trainable`, `norm`.
        merges: Whether the method supports merging.
        new_keys: Regular expression for keys that merging may add to the state dict of
            the plain network, such as biases. Default: no new keys.
        neutral: Whether the untrained method leaves the output as it is.
    """

    network: Callable[[], nn.Module]
    method: Callable[[], Method]
    loss: Callable[[nn.Module], Tensor]
    outputs: Callable[[nn.Module], list[Tensor]]
    part: Callable[[nn.Module], tuple[nn.Module, Tensor]]
    prepare: Callable[[nn.Module], object] | None = None
    stage: dict[str, Any] = field(default_factory=dict, hash=False)
    merges: bool = True
    new_keys: str | None = None
    neutral: bool = True

    def base(self) -> nn.Module:
        """Return the model without the method, in evaluation mode."""
        model = self.network()
        if self.prepare is not None:
            self.prepare(model)
        model.eval()
        return model

    def adapted(self) -> nn.Module:
        """Return a copy of the adapted, untrained model in evaluation mode."""
        return copy.deepcopy(_adapted(self))

    def trained(self) -> nn.Module:
        """Return a copy of the adapted, trained model in evaluation mode."""
        return copy.deepcopy(_trained(self))


@lru_cache(maxsize=1)
def _adapted(case: Case) -> nn.Module:
    model = case.base()
    torch.manual_seed(1)
    adapt_(model, case.method(), NAME, **case.stage)
    model.eval()
    return model


@lru_cache(maxsize=1)
def _trained(case: Case) -> nn.Module:
    model = case.adapted()
    _train(case, model, model)
    model.eval()
    return model


def _train(case: Case, model: nn.Module, called: nn.Module, steps: int = 3) -> None:
    """Train `model` for a few steps; `called` is the model or a wrapper around it."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='CompleteOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.5),
        ),
    )
    model.train()
    for step in range(steps):
        torch.manual_seed(step)
        wrapper.update_params(case.loss(called))


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two lists of outputs are bitwise equal."""
    return len(first) == len(second) > 0 and all(
        torch.equal(a, b) for a, b in zip(first, second, strict=True)
    )


def _close(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two lists of outputs differ only by rounding."""
    return len(first) == len(second) > 0 and all(
        (a - b).norm() <= TOLERANCE * b.norm()
        for a, b in zip(first, second, strict=True)
        if a.is_floating_point()
    )


def check_without_effect_at_first(case: Case) -> None:
    """The untrained output (if not `neutral`: switched off) equals that of the base."""
    model, expected = case.adapted(), case.outputs(case.base())
    assert _equal(case.outputs(model), expected) == case.neutral
    for layer, _ in () if case.neutral else names_of(model, AdapterLayer):
        layer.enable_adapter(NAME, False)
    assert _equal(case.outputs(model), expected)


def check_only_the_declared_changes(case: Case) -> None:
    """Weight decay leaves frozen tensors alone; only trainable ones get gradients."""
    before, model = case.adapted().state_dict(), case.adapted()
    _train(case, model, model)
    after, declared = model.state_dict(), set(stage_of(model).changed)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed <= declared, f'changed but not declared: {changed - declared}'
    adapters = adapter_keys(model, NAME)
    assert adapters <= declared, 'adapters are missing from the record of the stage'
    assert adapters <= changed, f'adapters that did not train: {adapters - changed}'
    model.train()
    case.loss(model).backward()
    for name, parameter in model.named_parameters():
        has = parameter.grad is not None
        assert has == parameter.requires_grad, f'{name}: gradient {has}'


def check_the_report_counts(case: Case) -> None:
    """`trainable_report` counts each parameter with `requires_grad` exactly once."""
    model = case.adapted()
    report = trainable_report(model)
    learns = [p.numel() for p in model.parameters() if p.requires_grad]
    assert sum(report.trainable.values()) == sum(learns) > 0
    assert report.total == sum(p.numel() for p in model.parameters())
    assert report.name == NAME
    for layer, _ in names_of(model, AdapterLayer):
        names = {n for _, a in layer.named_adapters() for n, _ in a.named_parameters()}
        assert names == set(layer.adapter_parameters), 'adapter_parameters is wrong'


def check_files(case: Case) -> None:
    """An adapter file restores the trained model; unloading it leaves no trace."""
    trained, model = case.trained(), case.base()
    before, keys = case.outputs(model), list(model.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'adapter.pth'
        save_adapter(trained, path)
        content = torch.load(path, weights_only=True)
        load_adapter(model, path)
    assert set(content['state_dict']) == set(stage_of(trained).changed)
    expected = case.outputs(trained)
    assert _equal(case.outputs(model), expected), 'output differs after loading'
    switch_adapter_(model, NAME, False)
    assert _equal(case.outputs(model), before), 'output differs from the base when off'
    switch_adapter_(model, NAME, True)
    assert _equal(case.outputs(model), expected), 'output differs when on again'
    unload_adapter(model, NAME)
    assert _equal(case.outputs(model), before), 'output differs after unloading'
    assert list(model.state_dict()) == keys, 'unloading leaves keys behind'


def check_damaged_and_foreign_files(case: Case) -> None:
    """A damaged file or another base is refused and leaves the model unchanged."""
    adapter = adapter_state(case.trained())
    model = case.base()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flipped = copy.deepcopy(adapter)
    tensor = next(t for t in flipped['state_dict'].values() if t.numel())
    tensor.flatten().view(torch.uint8)[0] ^= 1
    with _refused('damaged'):
        load_adapter_state(model, flipped)
    frozen = [k for k in state if k not in adapter['state_dict']]
    frozen = [k for k in frozen if state[k].is_floating_point()]
    if frozen:  # else the file holds the whole model
        foreign = case.base()
        with torch.no_grad():
            foreign.state_dict()[frozen[0]].add_(1.0)
        with _refused('another model'):
            load_adapter_state(foreign, adapter)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model.state_dict().keys() == state.keys()


@contextmanager
def _refused(why: str) -> Iterator[None]:
    """Require the block to raise a ValueError whose message matches `why`."""
    try:
        yield
    except ValueError as error:
        if not re.search(why, str(error)):
            raise AssertionError(f'refused, but not as {why!r}: {error}') from error
    else:
        raise AssertionError(f'not refused as {why!r}')


def check_merging(case: Case) -> None:
    """The merged model is plain and computes the same outputs; NaN is refused."""
    model, plain = case.trained(), case.network()
    expected, state = case.outputs(model), model.state_dict()
    if not case.merges:
        with _refused('merge'):
            merge_(model)
        return
    broken = copy.deepcopy(model)
    own = adapter_keys(broken, NAME)
    parameter = next((p for key, p in broken.named_parameters() if key in own), None)
    if parameter is not None:
        parameter.data.view(-1)[0] = float('nan')
        with _refused('NaN'):
            merge_(broken)
    merge_(model)
    assert not any(isinstance(m, AdapterLayer) for m in model.modules())
    keys, wanted = model.state_dict().keys(), plain.state_dict().keys()
    assert keys >= wanted, f'missing after merging: {wanted - keys}'
    new = {k for k in keys - wanted if not re.search(case.new_keys or r'$^', k)}
    assert not new, f'merging added keys that new_keys does not match: {new}'
    assert _close(case.outputs(model), expected), 'output differs after merging'
    once = {key: value.clone() for key, value in model.state_dict().items()}
    merge_(model)
    assert all(torch.equal(v, once[k]) for k, v in model.state_dict().items())
    merged = merge_state_dict(state)
    assert merged.keys() == once.keys(), 'merge_state_dict gives other keys'
    assert all(torch.equal(v, once[k]) for k, v in merged.items())


def check_plain_checkpoints_load(case: Case) -> None:
    """A checkpoint of the plain network loads; only adapter keys are missing."""
    model, adapters = case.adapted(), adapter_keys(case.adapted(), NAME)
    result = model.load_state_dict(case.network().state_dict(), strict=False)
    missing = {*result.missing_keys}  # torch adds the counters of batch norms
    assert missing == {k for k in adapters if 'num_batches' not in k}
    assert result.unexpected_keys == []
    again = case.adapted()
    again.load_state_dict(case.trained().state_dict(), strict=True)
    again.eval()
    assert _equal(case.outputs(again), case.outputs(case.trained()))


def check_copies_and_modes(case: Case) -> None:
    """Copies and pickles compute the same; `train()` unfreezes nothing."""
    model = case.trained()
    expected = case.outputs(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert _equal(case.outputs(twin), expected)
        before = {k: v.clone() for k, v in twin.state_dict().items()}
        twin.eval()
        twin.train()
        torch.manual_seed(0)
        case.loss(twin)
        declared = set(stage_of(twin).changed)
        moved = {k for k, v in twin.state_dict().items() if not v.equal(before[k])}
        assert moved <= declared, f'changed by a forward pass: {moved - declared}'
        learns = {n for n, p in twin.named_parameters() if p.requires_grad}
        assert learns == {n for n, p in model.named_parameters() if p.requires_grad}


def check_mixed_precision(case: Case) -> None:
    """A bfloat16 autocast step gives a finite loss and finite gradients."""
    model = case.adapted()
    model.train()
    torch.manual_seed(0)
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16):
        loss = case.loss(model)
    assert loss.isfinite(), f'loss {loss.item()}'
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.dtype == parameter.dtype


def check_gradient_checkpointing(case: Case) -> None:
    """Gradient checkpointing gives the same gradients."""
    gradients = []
    for recompute in (False, True):
        model = case.trained()
        part, x = case.part(model)
        x = x.clone().requires_grad_()
        out = checkpoint(part, x, use_reentrant=False) if recompute else part(x)
        out = out[-1] if isinstance(out, (list, tuple)) else out
        # not squares: after a last layer norm their mean is a constant
        out.flatten().dot(torch.linspace(-1, 1, out.numel()).to(out)).backward()
        gradients.append([(n, p.grad) for n, p in part.named_parameters()])
    for (name, expected), (_, got) in zip(*gradients, strict=True):
        assert (got is None) == (expected is None), name
        if expected is not None:
            assert (got - expected).norm() <= TOLERANCE * expected.norm(), name


def check_tracing(case: Case) -> None:
    """A traced part computes the same outputs, both adapted and merged."""
    merged = [merge_(case.trained())] if case.merges else []
    for model in [case.trained(), *merged]:
        part, x = case.part(model.requires_grad_(False))
        expected, found = part(x), torch.jit.trace(part, (x,), check_trace=False)(x)
        if not isinstance(expected, (list, tuple)):
            expected, found = [expected], [found]
        assert _close(list(found), list(expected))


def check_distributed(case: Case) -> None:
    """DDP training finds no unused parameters; `adapt_` refuses wrapped models."""
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/meeting', rank=0, world_size=1
        )
        try:
            model = case.adapted()
            wrapped = DistributedDataParallel(model, find_unused_parameters=False)
            _train(case, model, wrapped)
            with _refused('wrapped'):
                adapt_(wrapped, case.method(), 'late')
            assert unwrap(wrapped) is model
        finally:
            distributed.destroy_process_group()


def check_second_application(case: Case) -> None:
    """An adapter name in use is refused, and the model stays unchanged."""
    model = case.trained()
    if not adapter_keys(model, NAME):
        return
    keys, expected = list(model.state_dict()), case.outputs(model)
    with _refused(f'{NAME!r}|nothing'):
        adapt_(model, case.method(), NAME)
    assert list(model.state_dict()) == keys
    assert _equal(case.outputs(model), expected)


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_without_effect_at_first,
    check_only_the_declared_changes,
    check_the_report_counts,
    check_files,
    check_damaged_and_foreign_files,
    check_merging,
    check_plain_checkpoints_load,
    check_copies_and_modes,
    check_mixed_precision,
    check_gradient_checkpointing,
    check_tracing,
    check_distributed,
    check_second_application,
)
"""All checks. Each takes a `Case`."""
