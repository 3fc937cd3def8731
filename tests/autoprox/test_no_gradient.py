"""Networks in which no gradient reaches the blocks at the start: an error names what is 0, and no proxy scores 0."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprox import Proxy, resolve
from autoprox.export import export
from autoprox.primitives import find_blocks, read_statistics
from autoprox.scoring import ProxyError
from tests.exported_files import loaded
from tests.tiny_vit import TinyVit, batch


class PostNormVit(TinyVit):
    """Norms after attention and MLP, as in Swin V2."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT
        for block in self.blocks:
            x = x + block.norm1(block.attn(x))
            x = x + block.norm2(block.mlp(x))
        return self.head(x.mean(1))


def zero_head() -> nn.Module:
    """As timm's hiera and torchvision's vit_b_16 have it."""
    model = TinyVit()
    nn.init.zeros_(model.head.weight)
    return model


def zero_norms() -> nn.Module:
    """As timm's swinv2 and swinv2_cr have it."""
    model = PostNormVit()
    for block in model.blocks:
        nn.init.zeros_(block.norm1.weight)
        nn.init.zeros_(block.norm2.weight)
    return model


def zero_last_layers() -> nn.Module:
    """Branches whose last layers are 0: half of the layers have no gradient, and no weight times its own is not 0."""
    model = TinyVit()
    for block in model.blocks:
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.mlp.fc2.weight)
    return model


SILENT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "head": (zero_head, "these start at 0: head.weight;"),
    "norms": (zero_norms, "these start at 0: blocks.0.norm1.weight, blocks.0.norm2.weight, .* and 1 more;"),
    "last layers": (zero_last_layers, "these start at 0: blocks.0.attn.proj.weight, blocks.0.mlp.fc2.weight, "),
}
OF_BLOCKS = ("snip", "grad-norm", "synflow", "logsynflow", "plain", "fisher", "zico", "pruner-zero", "dss")
OF_ALL = (
    "snip-all",
    "grad-norm-all",
    "synflow-all",
    "plain-all",
    "zico-all",
    "grasp",
    "gradsign",
    "croze",
    "te-nas-ntk",
)


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("name", OF_BLOCKS)
def test_proxies_of_the_blocks_name_what_is_0(name: str, case: str) -> None:
    build, said = SILENT[case]
    with pytest.raises(ProxyError, match=rf"is exactly 0 in \d of 8 layers, .*: {said}"):
        resolve(name).score(build(), *batch())


@pytest.mark.parametrize("case", ["head", "norms"])
@pytest.mark.parametrize("name", OF_ALL)
def test_proxies_of_all_weights_name_what_is_0(name: str, case: str) -> None:
    build, said = SILENT[case]
    with pytest.raises(ProxyError, match=rf"are exactly 0 in \d+ of \d+ layers, .*: {said}"):
        resolve(name).score(build(), batch()[0], torch.tensor([0, 1, 0, 1]))


@pytest.mark.parametrize("name", ["snip", "croze", "grasp", "grad-norm-all"])
def test_one_class_has_no_gradient(name: str) -> None:
    model = TinyVit()
    model.head = nn.Linear(6, 1)
    with pytest.raises(ProxyError, match=r"exactly 0 in .*: there is one class, or a scale of 0; give other"):
        resolve(name).score(model, batch()[0], torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("case", SILENT)
def test_exported_files_say_the_same(case: str) -> None:
    proxy, model = Proxy.from_formula("sum(l1(weight * weight_grad))"), SILENT[case][0]()
    module = loaded(export(proxy, "python"))
    with pytest.raises(ProxyError) as ours:
        proxy.score(model, *batch())
    with pytest.raises(module.ProxyError) as theirs:
        module.score(model, *batch())
    assert str(theirs.value) == str(ours.value)


@pytest.mark.parametrize("case", SILENT)
def test_what_reads_no_gradient_scores(case: str) -> None:
    for name in ("l2-norm", "act-norm", "nwot-layers", "params"):
        assert resolve(name).score(SILENT[case][0](), *batch()) > 0


def test_small_scales_are_no_zeros() -> None:
    """A head of deviation 2e-5 and branches scaled by 1e-6 make small gradients, which are scored."""
    model = TinyVit()
    with torch.no_grad():
        model.head.weight *= 1e-5
        for block in model.blocks:
            block.attn.proj.weight *= 1e-6
            block.mlp.fc2.weight *= 1e-6
    assert 0 < resolve("snip").score(model, *batch()) < 1e-6


class Positioned(TinyVit):
    """A class token and position embeddings that start at 0, as in transformers' DeiT, ViTMSN and ViTMAE."""

    def __init__(self) -> None:
        super().__init__()
        self.cls, self.positions = nn.Parameter(torch.zeros(1, 1, 6)), nn.Parameter(torch.zeros(1, 5, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(x), -1, -1), self.patch(x).flatten(2).mT], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


def test_positions_of_0_stop_nothing_and_are_not_named() -> None:
    model = Positioned()
    assert resolve("snip").score(model, *batch()) > 0
    nn.init.zeros_(model.head.weight)
    with pytest.raises(ProxyError, match=r"these start at 0: head\.weight; give"):
        resolve("snip").score(model, *batch())


def test_equal_tokens_leave_synflow_rounding_in_query_and_key() -> None:
    """SynFlow's image is 1 everywhere: without position embeddings, as in Swin, attention has nothing to tell apart."""
    model = TinyVit(depth=3)
    blocks = find_blocks(model)
    gradients = read_statistics(model, blocks, {("weight_grad", "synflow")}, batch()[0]).matrices
    for matrix in gradients["weight_grad", "synflow", "qkv"]:
        query, key, value = (part.abs().max() for part in matrix.chunk(3))
        assert max(query, key) < 1e-5 * value
    assert resolve("synflow").score(model, *batch()) > 0
