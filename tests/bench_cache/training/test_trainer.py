"""Training: the batched trainer equals a plain loop of one network, learns, and is the same for the same arguments."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprox.bench_cache.runtime.checks import BenchmarkError
from autoprox.bench_cache.spaces.autoformer import AutoFormerArch
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training import trainer as training
from autoprox.bench_cache.training.dataset import Dataset
from autoprox.bench_cache.training.trainer import Recipe, train

SPACE = get_space("mini-vit")
ARCH = AutoFormerArch(16, (2, 1), (1.0, 2.0))


def blobs(count: int = 96, classes: int = 3) -> Dataset:
    """Noisy copies of one random image for each class."""
    rng = torch.Generator().manual_seed(0)
    kinds = torch.randn(classes, 2, 8, 8, generator=rng)
    labels = torch.arange(2 * count) % classes
    images = kinds[labels] + 0.7 * torch.randn(2 * count, 2, 8, 8, generator=rng)
    return Dataset("blobs", images[:count], labels[:count], images[count:], labels[count:], classes, 4)


DATA = blobs()
RECIPE = Recipe(epochs=3, batch=32, lr=3e-3)


def plain(data: Dataset, recipe: Recipe, seed: int) -> nn.Module:
    """The same training as a textbook loop: one network, torch's own optimiser and clipping."""
    network = SPACE.build(ARCH, data.spec, seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    order = torch.Generator().manual_seed(seed)
    per_epoch = len(data.train_labels) // recipe.batch
    for epoch in range(recipe.epochs):
        chosen = torch.randperm(len(data.train_labels), generator=order)
        for number in range(per_epoch):
            rows = chosen[number * recipe.batch : (number + 1) * recipe.batch]
            optimiser.zero_grad()
            functional.cross_entropy(network(data.train_images[rows]), data.train_labels[rows]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(epoch * per_epoch + number, recipe.epochs * per_epoch)
            optimiser.step()
    return network


@pytest.mark.parametrize("clip", [1.0, 0.1, 1e9], ids=["some clipped", "all clipped", "none clipped"])
def test_seeds_trained_together_are_those_trained_alone_by_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, clip: float
) -> None:
    """To the weights; in float64, for AdamW divides by small numbers, and float32 takes both ways apart."""
    build, recipe = type(SPACE).build, replace(RECIPE, batch=28, clip=clip)  # the last batch is not whole
    ended: dict[str, Tensor] = {}
    accuracies = training._accuracies

    def watched(logits: object, parameters: dict[str, Tensor], data: Dataset) -> list[float]:
        ended.update(parameters)
        return accuracies(logits, parameters, data)

    monkeypatch.setattr(type(SPACE), "build", lambda *choice: build(*choice).double())
    monkeypatch.setattr(training, "_accuracies", watched)
    data = replace(DATA, train_images=DATA.train_images.double(), test_images=DATA.test_images.double())
    found = train(SPACE, ARCH, data.spec, data, recipe, (0, 5, 3))
    for row, seed in enumerate((0, 5, 3)):
        network = plain(data, recipe, seed)
        assert dict(network.named_parameters()).keys() == ended.keys()
        for name, weights in network.named_parameters():
            torch.testing.assert_close(ended[name][row], weights, rtol=0, atol=1e-6, msg=f"{name} of seed {seed}")
        with torch.no_grad():
            right = network(data.test_images).argmax(1) == data.test_labels
        assert found[row] == pytest.approx(100 * float(right.double().mean()))
    assert len(set(found)) > 1


def test_a_seed_trains_alike_in_any_company() -> None:
    alone = [train(SPACE, ARCH, DATA.spec, DATA, RECIPE, [seed])[0] for seed in (0, 1)]
    together = train(SPACE, ARCH, DATA.spec, DATA, RECIPE, (1, 0))
    one_image = 100 / len(DATA.test_labels)  # one that is on the edge may fall to either side
    np.testing.assert_allclose(together, alone[::-1], atol=1.01 * one_image)


def test_the_same_arguments_give_the_same_accuracies() -> None:
    assert train(SPACE, ARCH, DATA.spec, DATA, RECIPE, range(2)) == train(
        SPACE, ARCH, DATA.spec, DATA, RECIPE, range(2)
    )


def test_it_learns() -> None:
    short, long = (train(SPACE, ARCH, DATA.spec, DATA, replace(RECIPE, epochs=e), range(2)) for e in (1, 12))
    assert np.mean(long) > np.mean(short)
    assert np.mean(long) > 80


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    rare = DATA.test_labels == 0
    keep = torch.cat([torch.nonzero(~rare).flatten(), torch.nonzero(rare).flatten()[:4]])
    uneven = replace(DATA, test_images=DATA.test_images[keep], test_labels=DATA.test_labels[keep])
    (plain_accuracy,) = train(SPACE, ARCH, DATA.spec, uneven, RECIPE, [0])
    (balanced,) = train(SPACE, ARCH, DATA.spec, replace(uneven, balanced=True), RECIPE, [0])
    counts = np.bincount(uneven.test_labels.numpy())
    right = [
        plain_of * count / 100
        for plain_of, count in zip(
            [train(SPACE, ARCH, DATA.spec, of_class(uneven, kind), RECIPE, [0])[0] for kind in range(3)],
            counts,
            strict=True,
        )
    ]
    assert plain_accuracy == pytest.approx(100 * sum(right) / counts.sum())
    assert balanced == pytest.approx(100 * np.mean(np.array(right) / counts))


def of_class(data: Dataset, kind: int) -> Dataset:
    rows = data.test_labels == kind
    return replace(data, test_images=data.test_images[rows], test_labels=data.test_labels[rows])


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    recipe = Recipe(epochs=1, lr=1.0, warmup=0.1)
    rates = [recipe.rate(step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be a whole number from 1"),
        ({"batch": 0}, "batch is 0"),
        ({"lr": 0.0}, "lr is 0.0; it must be a positive number"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(choice: dict, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        Recipe(**choice)


def test_other_spaces_can_be_trained() -> None:
    space = get_space("pit-vb101")
    data = replace(blobs(32), patch_size=8)
    small = Dataset(
        "x", *(t.repeat(1, 1, 3, 3) if t.ndim == 4 else t for t in (
            data.train_images, data.train_labels, data.test_images, data.test_labels)), 3, 8
    )  # fmt: skip
    arch = min((space.sample(Random(i)) for i in range(20)), key=lambda a: space.params(a, small.spec))
    assert all(0 <= a <= 100 for a in train(space, arch, small.spec, small, Recipe(1, 16), range(2)))
