"""Checked layers: the blocks of public models as their source has them, written down by hand, beside what is found.

    python benchmarks/checked_layers.py           print a line for each model, as Markdown
    python benchmarks/checked_layers.py --page    write these lines into docs/coverage.md

Ends with code 1 if blocks are found otherwise than the source says. Needs timm, transformers and torchvision, which
autoprox itself does not.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from coverage_models import makers
from pages import DOCS, write_part

from autoprox import find_layers

Slots = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Group:
    """Blocks of one kind: where they are, and each slot's layers below that.

    `path` has a `{}` for each of `numbers`, which are counted up like nested loops.
    """

    path: str
    numbers: tuple[Sequence[int], ...]
    slots: Slots

    def blocks(self) -> list[dict[str, tuple[str, ...]]]:
        """Return the slots of each block, with whole names."""
        paths = [self.path.format(*numbers) for numbers in product(*self.numbers)]
        return [{slot: tuple(f"{path}.{n}" for n in names) for slot, names in self.slots.items()} for path in paths]

    def __str__(self) -> str:
        places = self.path.format(*(_range(numbers) for numbers in self.numbers))
        return f"`{places}`: " + ", ".join(f"{slot} {' '.join(names)}" for slot, names in self.slots.items())


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{{{numbers[0]}–{numbers[-1]}}}"


def slots(qkv: str, proj: str, fc1: str, fc2: str) -> Slots:
    """Return the slots that have layers; names are separated by blanks."""
    given = {"qkv": qkv, "proj": proj, "fc1": fc1, "fc2": fc2}
    return {slot: tuple(names.split()) for slot, names in given.items() if names}


PLAIN = slots("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
APART = slots("attn.q attn.k attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")
REDUCED = slots("attn.q attn.kv", "attn.proj", "mlp.fc1", "mlp.fc2")
HUGGING_FACE = slots("attention.q_proj attention.k_proj attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")
LEVIT = slots("attn.qkv.linear", "attn.proj.ln.linear", "mlp.ln1.linear", "mlp.ln2.linear")
LEVIT_DOWN = slots(
    "attn_downsample.kv.linear attn_downsample.q.ln.linear",
    "attn_downsample.proj.ln.linear",
    "mlp.ln1.linear",
    "mlp.ln2.linear",
)
CROSSVIT = [
    group
    for stage in range(3)
    for group in (
        Group(f"blocks.{stage}.blocks.0.{{}}", (range(1),), PLAIN),
        Group(f"blocks.{stage}.blocks.1.{{}}", (range(4),), PLAIN),
        Group(f"blocks.{stage}.fusion.{{}}", (range(2),), slots("attn.wq attn.wk attn.wv", "attn.proj", "", "")),
    )
]

#: Family, as benchmarks/coverage_models.py has it → its blocks in the order in which they run.
CHECKED: dict[str, list[Group]] = {
    "timm:cait": [  # talking heads, then class attention
        Group("blocks.{}", (range(24),), PLAIN),
        Group("blocks_token_only.{}", (range(2),), APART),
    ],
    "timm:convit": [  # gated positional attention in the first ten
        Group("blocks.{}", (range(10),), slots("attn.qk attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")),
        Group("blocks.{}", (range(10, 12),), PLAIN),
    ],
    "timm:twins_svt": [  # windows, then attention to fewer tokens, by turns
        Group(f"blocks.{stage}.{block}", (), REDUCED if block % 2 else PLAIN)
        for stage, depth in enumerate((2, 2, 10, 4))
        for block in range(depth)
    ],
    "timm:volo": [  # outlook attention has probabilities from one layer and values from another
        Group("network.0.{}", (range(4),), slots("attn.v attn.attn", "attn.proj", "mlp.fc1", "mlp.fc2")),
        Group("network.2.{}", (range(4),), PLAIN),
        Group("network.3.{}", (range(8),), PLAIN),
        Group("network.4.{}", (range(2),), PLAIN),
        Group("post_network.{}", (range(2),), slots("attn.kv attn.q", "attn.proj", "mlp.fc1", "mlp.fc2")),
    ],
    "timm:xcit": [  # attention between channels, a local convolution in between, then class attention
        Group("blocks.{}", (range(12),), PLAIN),
        Group("cls_attn_blocks.{}", (range(2),), APART),
    ],
    "timm:crossvit": CROSSVIT,  # two streams, which attend to one another without an MLP
    "timm:levit": [
        Group("stages.0.blocks.{}", (range(2),), LEVIT),
        Group("stages.1.downsample", (), LEVIT_DOWN),
        Group("stages.1.blocks.{}", (range(3),), LEVIT),
        Group("stages.2.downsample", (), LEVIT_DOWN),
        Group("stages.2.blocks.{}", (range(4),), LEVIT),
    ],
    "timm:pvt_v2": [Group("stages.{}.blocks.{}", (range(4), range(2)), REDUCED)],
    "timm:gcvit": [  # queries of every second block come from a convolution of the stage
        Group(f"stages.{stage}.blocks.{{}}", (range(depth),), PLAIN) for stage, depth in enumerate((2, 2, 6, 2))
    ],
    "timm:mixer": [
        Group(
            "blocks.{}",
            (range(8),),
            slots("mlp_tokens.fc1", "mlp_tokens.fc2", "mlp_channels.fc1", "mlp_channels.fc2"),
        )
    ],
    "timm:gmlp": [  # the gate, over tokens, stands between the two layers of the MLP
        Group("blocks.{}", (range(30),), slots("", "mlp_channels.gate.proj", "mlp_channels.fc1", "mlp_channels.fc2"))
    ],
    "transformers:segformer": [Group("segformer.stages.{}.blocks.{}", (range(4), range(2)), HUGGING_FACE)],
    "transformers:swin": [Group("swin.encoder.layers.{}.blocks.{}", (range(2), range(2)), HUGGING_FACE)],
    "torchvision:vit": [
        Group(
            "encoder.layers.encoder_layer_{}",
            (range(12),),
            slots("self_attention.in_proj_weight", "self_attention.out_proj", "mlp.0", "mlp.3"),
        )
    ],
}


def main(arguments: Sequence[str]) -> int:
    """Compare all models, and return 1 if one is not as its source says."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    wrong = 0
    lines = ["| model | by its source, in the order in which they run | blocks | found |", "|---|---|---|---|"]
    for library, family, name, make in makers():
        if (groups := CHECKED.get(f"{library}:{family}")) is not None:
            by_hand = [block for group in groups for block in group.blocks()]
            found = [dict(block.linears) for block in find_layers(*make()).blocks]
            lines.append(
                f"| {library} `{name}` | {_described(groups)} | {len(by_hand)} | {_compared(by_hand, found)} |"
            )
            wrong += by_hand != found
    if "--page" in arguments:
        write_part(DOCS / "coverage.md", "checked_layers.py", lines)
    else:
        print("\n".join(lines))
    return 1 if wrong else 0


def _described(groups: Iterable[Group]) -> str:
    """Return the groups as text; those with the same slots one after the other share them."""
    parts: dict[str, list[str]] = {}
    for group in groups:
        place, _, names = str(group).partition(": ")
        parts.setdefault(names, []).append(place)
    return "<br>".join(f"{', '.join(places)}: {names}" for names, places in parts.items())


def _compared(by_hand: Sequence[object], found: Sequence[object]) -> str:
    if by_hand == found:
        return "the same"
    pairs = [(a, b) for a, b in zip(by_hand, found, strict=False) if a != b]
    return f"{len(found)} blocks; first other: {pairs[0] if pairs else 'none in common ones'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
