"""Networks: an architecture of a space as JSON, as YAML, and as a Python file that builds it with torch alone.

To write networks of another family, write a function that returns their `Code`, and add it to FAMILIES. The files of
all other spaces build through autoprox, and say what else they need: timm, or the user's own file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from types import MappingProxyType
from typing import Any

import orjson

from autoprox import __version__
from autoprox.bench_cache.runtime.user_code import shown
from autoprox.bench_cache.spaces import autoformer, blocks, micro_vit, nas_bench_201, pit
from autoprox.bench_cache.spaces.listed import ListedSpace, input_of
from autoprox.bench_cache.spaces.registry import InputSpec, Space, get_space
from autoprox.export.sources import Import, bundle
from autoprox.export.standalone import definitions_text, imports_text
from autoprox.export.yaml_text import to_yaml


@dataclass(frozen=True)
class Code:
    """Python that constructs a network.

    `construct` are the lines of a function without arguments that returns it with weights still to be drawn, and
    `linear` says how its linears start (see `blocks.initialised`). `start` are lines that then draw some weights of
    `network` from `generator`. `uses` are the functions and classes in these lines; `named` are other names in them,
    each with that of the module that has it.
    """

    construct: Sequence[str]
    uses: Sequence[Callable[..., object]]
    linear: str
    start: Sequence[str] = ()
    named: Sequence[tuple[str, str]] = ()


def genes_files(genes: Mapping[str, Any], about: str = "") -> dict[str, str]:
    """Return the files of genes by their endings, json and yaml; `about` is a comment of one line for the latter."""
    data = orjson.dumps(genes, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return {"json": data.decode(), "yaml": (f"# {about}\n" if about else "") + to_yaml(genes)}


def network_files(space: str, arch: Any, spec: InputSpec) -> dict[str, str]:
    """Return the files of an architecture by their endings: json and yaml have the genes, py builds the network.

    `space` is a name as `pinned` gives it; `spec` says what the network reads.
    """
    found = get_space(space)
    genes = genes_files(found.to_json(arch), _described(found, input_of(found, arch, spec)))
    return {**genes, "py": to_python_network(space, arch, spec)}


def to_python_network(space: str, arch: Any, spec: InputSpec) -> str:
    """Return the source of a module whose `build(seed)` gives the network that `Space.build` gives, bit for bit.

    That of a built-in family imports torch and the standard library. A network of timm needs autoprox and timm, and one
    of a user's space needs autoprox and the user's file, which the text names.
    """
    found = get_space(space)
    spec = input_of(found, arch, spec)
    write = FAMILIES.get(type(found))
    return _by_autoprox(space, arch, spec) if write is None else _by_torch(found, arch, spec, write(found, arch, spec))


def _described(space: Space[Any], spec: InputSpec) -> str:
    return (
        f"space {space.name}, images of {spec.in_channels} x {spec.image_size} x {spec.image_size}, "
        f"{spec.num_classes} classes, patches of {spec.patch_size}; written by autoprox {__version__}"
    )


# --- networks that others build ---

_AUTOPROX = """\
from torch import nn

from autoprox.bench_cache.spaces.registry import InputSpec, get_space

GENES = {genes}


def build(seed: int = 0, space: str = {space!r}) -> nn.Module:
    \"\"\"Return the untrained network, in training mode; its weights follow from the seed.\"\"\"
    found = get_space(space)
    return found.build(found.from_json(GENES), {spec}, seed)
"""


def _by_autoprox(space: str, arch: Any, spec: InputSpec) -> str:
    found, name = get_space(space), shown(space.rpartition("@")[0] or space)
    file = name.rpartition(":")[0]
    if isinstance(found, ListedSpace):
        needs = f"It needs autoprox and {found.name}."
    elif file.endswith(".py"):
        needs = (
            f"It is built by {file}, which is a user's: it needs autoprox and that file.\n"
            f'Elsewhere than beside {file}, say where that is: build(space="PATH/{name}").'
        )
    else:
        needs = f"It is built by a user's space: it needs autoprox and what offers {name}."
    body = _AUTOPROX.format(genes=repr(found.to_json(arch)), space=name, spec=_call(InputSpec, *astuple(spec)))
    return f"{_docstring(found, arch, spec, needs)}\n\n{body}"


# --- built-in families ---

_BUILD = '''\
def build(seed: int = 0) -> nn.Module:
    """Return the untrained network, in training mode; its weights follow from the seed."""
    digest = hashlib.sha256(f"{{seed}}\\n{{KEY}}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    network = initialised(construct, generator, linear={linear!r})
{start}    return network
'''


def _by_torch(space: Space[Any], arch: Any, spec: InputSpec, code: Code) -> str:
    names = (("hashlib", ""), ("torch", ""), ("torch", "nn"), ("__future__", "annotations"))
    imports = [Import(module, name, name or module) for module, name in names]
    taken = ("KEY", "construct", "build")
    sources = bundle([blocks.initialised, InputSpec, *code.uses], imports, taken, code.named)
    construct = [
        "def construct() -> nn.Module:",
        '    """Return the network with its weights still to be drawn."""',
        *(f"    {line}" for line in code.construct),
    ]
    build = _BUILD.format(linear=code.linear, start="".join(f"    {line}\n" for line in code.start))
    parts = [
        f"{_docstring(space, arch, spec, 'It needs only torch.')}\n\n{imports_text(sources.imports)}\n\n"
        f"#: What the weights follow from, together with the seed.\nKEY = {space.key(arch)!r}",
        *definitions_text(sources.definitions),
        "\n".join(construct),
        build.rstrip(),
    ]
    return "\n\n\n".join(parts) + "\n"


def _docstring(space: Space[Any], arch: Any, spec: InputSpec, needs: str) -> str:
    params = "" if isinstance(space, ListedSpace) else f", {space.params(arch, spec):,} parameters"
    lines = [
        f"A network of the search space {space.name}{params}. {needs}",
        "",
        "    from this_file import build",
        "    network = build(seed=0)",
        f"    logits = network(images)  # images × {spec.in_channels} × {spec.image_size} × {spec.image_size} → "
        f"images × {spec.num_classes}",
        "",
        f"Written by autoprox {__version__}.",
    ]
    return '"""' + "\n".join(lines) + '\n"""'


def _call(function: Callable[..., object], *arguments: Any) -> str:
    return f"{function.__name__}({', '.join(map(repr, arguments))})"


def _autoformer(space: autoformer.AutoFormerSpace, arch: autoformer.AutoFormerArch, spec: InputSpec) -> Code:
    width, grid = arch.embed_dim, spec.image_size // spec.patch_size
    around = grid if space.relative_positions else None

    def written() -> Iterator[str]:
        yield "blocks = ["
        for heads, ratio in zip(arch.num_heads, arch.mlp_ratio, strict=True):
            attention = _call(blocks.Attention, width, heads, space.head_dim or width // heads, around)
            yield f"    PreNormBlock({attention}, {_call(blocks.Mlp, width, int(width * ratio))}, {space.norm_eps!r}),"
        yield "]"
        yield f"return AutoFormer(blocks, {grid}, {_call(InputSpec, *astuple(spec))}, {space.norm_eps!r})"

    uses = (blocks.PreNormBlock, blocks.Attention, blocks.Mlp, autoformer.AutoFormer)
    return Code(tuple(written()), uses, space.linear)


def _pit(space: pit.PitSpace, arch: pit.PitArch, spec: InputSpec) -> Code:
    widths = tuple(arch.base_dim * heads for heads in arch.num_heads)
    grid = (spec.image_size - spec.patch_size) // (spec.patch_size // 2) + 1
    lines = (
        f"arch = {_call(pit.PitArch, *astuple(arch))}",
        f"return Pit(arch, {widths!r}, {grid}, {_call(InputSpec, *astuple(spec))})",
    )
    return Code(lines, (pit.PitArch, pit.Pit), "torch")


def _micro_vit(space: micro_vit.MicroVitSpace, arch: micro_vit.MicroVitArch, spec: InputSpec) -> Code:
    width, grid = space.embed_dim, spec.image_size // spec.patch_size

    def written() -> Iterator[str]:
        yield "blocks = ["
        for mixer, activation, norm, skip in zip(arch.mixer, arch.activation, arch.norm, arch.skip, strict=True):
            mlp = f"Mlp({width}, {space.ratio * width}, ACTIVATIONS[{activation!r}]())"
            yield f"    MicroVitBlock(MIXERS[{mixer!r}]({width}, {grid}), {mlp}, {norm!r}, {skip!r}),"
        yield "]"
        yield f"return MicroVit(blocks, {grid}, {_call(InputSpec, *astuple(spec))})"

    start = (
        f"starts = {tuple(zip(arch.init, arch.layer_scale, strict=True))!r}",
        "blocks = [module for module in network.modules() if isinstance(module, MicroVitBlock)]",
        "for block, (init, layer_scale) in zip(blocks, starts):",
        "    _start(block, init, layer_scale, generator)",
    )
    uses = (micro_vit.MicroVitBlock, blocks.Mlp, micro_vit.MicroVit)
    named = [(micro_vit.__name__, name) for name in ("MIXERS", "ACTIVATIONS", "_start")]
    return Code(tuple(written()), uses, "torch", start, named)


def _nas_bench_201(space: nas_bench_201.NasBench201Space, arch: nas_bench_201.NasBench201Arch, spec: InputSpec) -> Code:
    line = f"return {_call(nas_bench_201.NasBench201, arch.operations, spec.in_channels, spec.num_classes)}"
    return Code((line,), (nas_bench_201.NasBench201,), "torch")


#: The kinds of spaces whose networks are written out, and the function that writes each.
FAMILIES: Mapping[type, Callable[[Any, Any, InputSpec], Code]] = MappingProxyType(
    {
        autoformer.AutoFormerSpace: _autoformer,
        pit.PitSpace: _pit,
        micro_vit.MicroVitSpace: _micro_vit,
        nas_bench_201.NasBench201Space: _nas_bench_201,
    }
)
