"""Scopes of contrast between modalities, against loops."""

import pytest
import torch
from contrast_reference import loop_loss, unit

from mmir.registry import MODELS
from mmir.seg import ModalityContrast, PixelContrastLoss
from mmir.utils.errors import UserError

NAMES = ('rgb', 'ir', 'depth')
SOURCES = {
    'intra': lambda m, present: [m],
    'cross': lambda m, present: [k for k in present if k != m],
    'all': lambda m, present: present,
}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (4, 10, 10), generator=generator)
    guesses = {m: torch.randint(3, (4, 10, 10), generator=generator) for m in NAMES}
    return {m: unit(4, 5, 5, 5, seed=i) for i, m in enumerate(NAMES)}, labels, guesses


def subset(values, names):
    return {m: values[m] for m in names}


def contrast(scope, **options):
    options = dict(max_samples=40, max_views=4) | options
    return ModalityContrast(NAMES, scope, options)


def sampled(module, embeddings, labels, guesses):
    """The samples a module draws after the same seed."""
    torch.manual_seed(3)
    return {
        m: module.losses[m].sample(x, labels, guesses[m]) for m, x in embeddings.items()
    }


@pytest.mark.parametrize('present', [NAMES, ('rgb', 'ir'), ('ir',)])
@pytest.mark.parametrize('scope', SOURCES)
def test_equals_the_loops(batch, scope, present):
    embeddings, labels, guesses = batch
    embeddings, guesses = subset(embeddings, present), subset(guesses, present)
    module = contrast(scope)
    samples = sampled(module, embeddings, labels, guesses)
    torch.manual_seed(3)
    got = module(embeddings, labels, guesses)
    wanted = [
        loop_loss(
            samples[m], [(samples[k], k == m) for k in SOURCES[scope](m, [*present])]
        )
        for m in present
    ]
    assert got.item() == pytest.approx(sum(wanted) / len(present), rel=1e-10)
    assert (got.item() > 0) == (scope != 'cross' or len(present) > 1)


@pytest.mark.parametrize('scope', SOURCES)
def test_equals_the_loops_with_memory(batch, scope):
    embeddings, labels, guesses = batch
    module = contrast(scope, memory=dict(num_classes=3, channels=5, size=6))
    module(*batch)
    present = ('rgb', 'ir')  # the memory of the third is still there
    embeddings, guesses = subset(embeddings, present), subset(guesses, present)
    banks = {m: loss.memory.contents() for m, loss in module.losses.items()}
    samples = sampled(module, embeddings, labels, guesses)
    torch.manual_seed(3)
    got = module(embeddings, labels, guesses)
    total = 0
    for m in present:
        others = []
        for k in SOURCES[scope](m, [*NAMES]):
            others += [(samples[k], k == m)] if k in present else []
            others += [(banks[k], False)]
        total += loop_loss(samples[m], others)
    assert got.item() == pytest.approx(total / 2, rel=1e-10)


def test_memories_are_filled_by_their_modality_only(batch):
    embeddings, labels, guesses = batch
    module = contrast('cross', memory=dict(num_classes=3, channels=5, size=6))
    module(subset(embeddings, ['ir']), labels, guesses)
    filled = {m: int(x.memory.pixels.filled.sum()) for m, x in module.losses.items()}
    assert filled == dict(rgb=0, ir=18, depth=0)


@pytest.mark.parametrize('scope', SOURCES)
def test_a_modality_with_some_samples(batch, scope):
    """Rows are the same as leaving the others out of the labels."""
    embeddings, labels, guesses = batch
    rows = torch.tensor([3, 1])
    embeddings['ir'], guesses['ir'] = embeddings['ir'][rows], guesses['ir'][rows]
    module = contrast(scope)
    torch.manual_seed(3)
    samples = {}
    for m, x in embeddings.items():
        own = labels[rows] if m == 'ir' else labels
        samples[m] = PixelContrastLoss(max_samples=40, max_views=4).sample(
            x, own, guesses[m]
        )
    torch.manual_seed(3)
    got = module(embeddings, labels, guesses, rows=dict(rgb=None, ir=rows))
    wanted = [
        loop_loss(
            samples[m], [(samples[k], k == m) for k in SOURCES[scope](m, [*NAMES])]
        )
        for m in NAMES
    ]
    assert got.item() == pytest.approx(sum(wanted) / 3, rel=1e-10)


@pytest.mark.parametrize(
    ('scope', 'reached'), [('intra', False), ('cross', True), ('all', True)]
)
def test_gradient_crosses_modalities_outside_of_intra(batch, scope, reached):
    """Do the gradients of the visible embeddings depend on the infrared ones?"""
    _, labels, guesses = batch

    def gradient(seed):
        x = dict(rgb=unit(4, 5, 5, 5).requires_grad_(), ir=unit(4, 5, 5, 5, seed=seed))
        torch.manual_seed(0)
        contrast(scope)(x, labels, guesses).backward()
        return x['rgb'].grad

    assert torch.equal(gradient(1), gradient(2)) != reached


@pytest.mark.parametrize('scope', SOURCES)
@pytest.mark.parametrize('labels', ['ignored', 'one class', 'in one modality'])
def test_degenerate_batches_are_finite_with_a_graph(batch, scope, labels):
    embeddings, label, guesses = batch
    embeddings = {m: x.requires_grad_() for m, x in embeddings.items()}
    rows = None
    if labels == 'ignored':
        label = torch.full_like(label, 255)
    elif labels == 'one class':
        label = torch.zeros_like(label)
    else:
        label[:2] = 255
        rows = dict(ir=torch.tensor([0, 1]), depth=torch.tensor([0, 1]))
        embeddings |= {m: embeddings[m][:2].detach().requires_grad_() for m in rows}
        guesses |= {m: guesses[m][:2] for m in rows}
    got = contrast(scope)(embeddings, label, guesses, rows)
    got.backward()
    assert (got.item() == 0) == (labels != 'in one modality' or scope == 'cross')
    assert all(torch.isfinite(x.grad).all() for x in embeddings.values())


def test_a_lone_modality_of_cross_has_a_graph(batch):
    embeddings, labels, guesses = batch
    x = embeddings['ir'].requires_grad_()
    got = contrast('cross')(dict(ir=x), labels, guesses)
    got.backward()
    assert got.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_a_modality_without_samples(batch):
    """No row of the batch has the modality."""
    embeddings, labels, guesses = batch
    none = torch.zeros(0, dtype=torch.long)
    x = dict(rgb=embeddings['rgb'], ir=embeddings['ir'][none].requires_grad_())
    guesses['ir'] = guesses['ir'][none]
    module = contrast('all', memory=dict(num_classes=3, channels=5, size=6))
    got = module(x, labels, guesses, rows=dict(ir=none))
    got.backward()
    assert got.item() > 0
    assert x['ir'].grad.shape == (0, 5, 5, 5)


def test_refusals(batch):
    embeddings, labels, guesses = batch
    with pytest.raises(ValueError, match=r"one of .* got 'inter'"):
        ModalityContrast(scope='inter')
    with pytest.raises(UserError, match=r"a name of \['rgb', 'ir'\]"):
        ModalityContrast()(embeddings, labels, guesses)
    with pytest.raises(UserError, match='needs predictions'):
        contrast('intra')(embeddings, labels, subset(guesses, ['ir']))
    with pytest.raises(UserError, match=r'embeddings of \[\]'):
        contrast('intra')({}, labels, guesses)
    with pytest.raises(UserError, match=r'\(3, 10, 10\)'):
        contrast('intra')(embeddings, labels, guesses, dict(ir=torch.arange(3)))


def test_builds_from_a_config():
    config = dict(type='mmir.ModalityContrast', scope='all', loss=dict(temperature=0.2))
    built = MODELS.build(config)
    assert [*built.losses] == ['rgb', 'ir']
    assert built.losses['ir'].temperature == 0.2
