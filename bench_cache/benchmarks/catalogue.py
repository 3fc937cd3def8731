"""Catalogue: the public benchmarks that can be downloaded, with the addresses and digests of their files.

To add one, write an entry of `CATALOGUE` and, if the format is new, a module in `readers/`. The files are no part of
autoprox: they belong to their owners, and users fetch them from the owners' repositories.
"""

from dataclasses import dataclass

RAW_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublicFile:
    """One file: the benchmark it becomes, its SHA-256 and size in bytes, and its paths below the base address.

    The paths are tried in order. `beside` are further files that the reader finds in the same folder.
    """

    benchmark: str
    sha256: str
    size: int
    paths: tuple[str, ...]
    beside: tuple["PublicFile", ...] = ()

    @property
    def filename(self) -> str:
        """The name of the file, without folders."""
        return self.paths[0].rsplit("/", 1)[-1]


@dataclass(frozen=True)
class PublicSource:
    """One download: its name, what it is, the licence that its repository states, and its files."""

    name: str
    about: str
    licence: str
    files: tuple[PublicFile, ...]


def _vit_bench_101(filename: str) -> tuple[str, ...]:
    commit = "69ccf82bfa8897ce3c955a700a5b0f046d8e5f87"
    # The owner has had both names. SHA-256 makes sure that either address has the right file.
    return tuple(f"{owner}/Auto-Prox-AAAI24/{commit}/gt_results/{filename}" for owner in ("lliai", "lilujunai"))


def _ood_vit_nas(size: str) -> tuple[str, ...]:
    folder = "vovantuan1999a/OoD-ViT-NAS/af1e221d950fc00d0c24e52a468fddcd80f3945a/architecture_infors"
    return (f"{folder}/1k_Vit_Architecture_from_AutoFM_{size}.json",)


def _hytas(scene: str) -> tuple[str, ...]:
    return (f"zhoufangqin/HyTAS/19d34ca4f9c01e01c6f100f57deec06f0517fccf/results/{scene}_2000_new_all.csv",)


def _flexibert(filename: str) -> tuple[str, ...]:
    return (f"aaronserianni/training-free-nas/2d76e01b9586cad7340e8268dadba3056efd070b/data/{filename}",)


def _timm(filename: str, commit: str = "aa4b585") -> tuple[str, ...]:
    return (f"huggingface/pytorch-image-models/{commit}/results/{filename}",)


CATALOGUE: tuple[PublicSource, ...] = (
    PublicSource(
        name="vit-bench-101",
        about="100 AutoFormers and 100 PiTs, trained on CIFAR-100, Flowers and Chaoyang (Auto-Prox, AAAI 2024)",
        licence="Apache-2.0",
        files=(
            PublicFile(
                benchmark="vit-bench-101-autoformer",
                sha256="712ad277546d9f7f565ce07885be7e0b98dcd8d0724fdd1120f595b517436eca",
                size=26_671,
                paths=_vit_bench_101("gt_autoformer.pth"),
            ),
            PublicFile(
                benchmark="vit-bench-101-pit",
                sha256="bdda89841d4105f99ab759e3243e7a2402929ba7a8430dac12a50256aa533bb2",
                size=12_271,
                paths=_vit_bench_101("gt_pit.pth"),
            ),
        ),
    ),
    PublicSource(
        name="ood-vit-nas",
        about="1,001 AutoFormers each of the tiny and small supernet on ImageNet, inherited weights (arXiv 2501.03782)",
        licence="none stated",
        files=(
            PublicFile(
                benchmark="ood-vit-nas-tiny",
                sha256="5e07b49782d4f808c81fa565bcff5432293f832b8822224469f69edb380a1e70",
                size=391_651,
                paths=_ood_vit_nas("tiny"),
            ),
            PublicFile(
                benchmark="ood-vit-nas-small",
                sha256="d70fb30822848d71ce88efcff071973dce7f2256bc1a5eb663fcc138ca6ee789",
                size=358_361,
                paths=_ood_vit_nas("small"),
            ),
        ),
    ),
    PublicSource(
        name="hytas",
        about="2,000 hyperspectral ViTs on each of three scenes, with 14 proxies: tabular (HyTAS, ECCV 2024)",
        licence="none stated",
        files=(
            PublicFile(
                benchmark="hytas-indian",
                sha256="c4a63362233d788313733ba337b1380d5dac0c729240bf4d22536e1891c7d3da",
                size=678_412,
                paths=_hytas("indian"),
            ),
            PublicFile(
                benchmark="hytas-houston",
                sha256="d21f27b43712afdfa4ae0f2b909a029e1f32d3fbc763720783ec8b1adf1ba13a",
                size=667_418,
                paths=_hytas("houston"),
            ),
            PublicFile(
                benchmark="hytas-ksc",
                sha256="221351532ad58739994f7f0aa294b36ca2bd0384a5a7bb5e361676f3f5dfe032",
                size=679_265,
                paths=_hytas("ksc"),
            ),
        ),
    ),
    PublicSource(
        name="timm-in1k",
        about="219 transformers and token mixers of timm, trained on ImageNet-1k alone, with sizes and costs",
        licence="Apache-2.0",
        files=(
            PublicFile(
                benchmark="timm-in1k",
                sha256="30972bf7c7ab451bbd4480ec6116b13d0a84441c57bbc946896fd312264acfcd",
                size=123_104,
                paths=_timm("results-imagenet.csv"),
                beside=(
                    PublicFile(
                        benchmark="timm-in1k",
                        sha256="1d066d8897c40224b14f3cf1d02029c49ebdc56b761ba9a3841bd3bdd3bd0a8e",
                        size=152_771,
                        paths=_timm("results-imagenetv2-matched-frequency.csv"),
                    ),
                    PublicFile(
                        benchmark="timm-in1k",
                        sha256="7ef180f30bfcf3271aed993ddff2114c88a83b58e6f7e56acbd76e702e6f3136",
                        size=97_821,
                        paths=_timm(
                            "benchmark-infer-amp-nchw-pt291-cu128-4090.csv", "90cae8c5ab83d2d7e23b1fb2bab1559bfdcbc7e9"
                        ),
                    ),
                ),
            ),
        ),
    ),
    PublicSource(
        name="flexibert",
        about="491 text transformers on GLUE, trained from scratch, with 15 proxies: tabular (arXiv 2305.16836)",
        licence="CC BY 4.0",
        files=(
            PublicFile(
                benchmark="flexibert",
                sha256="fa2ff7198dcd71e0b8021ed2ace1c221672c33cc56931b6dff31fda3d044784f",
                size=453_164,
                paths=_flexibert("BERT_benchmark.json"),
                beside=(
                    PublicFile(
                        benchmark="flexibert",
                        sha256="95fb60a0e702102d6b09a60d13745068270aa28183b7cc8dacb79d5ec6a4b36d",
                        size=146_923,
                        paths=_flexibert("BERT_results_activation.csv"),
                    ),
                ),
            ),
        ),
    ),
    PublicSource(
        name="nas-bench-suite-zero",
        about="725 convolutional cells of NAS-Bench-201 on three image sets, with 12 proxies (arXiv 2210.03230)",
        licence="Apache-2.0",
        files=(
            PublicFile(
                benchmark="nas-bench-201",
                sha256="5dcbbcd56812a9f62164a376bc7df4082ab3af612082b6d26a845930e6eb8641",
                size=1_963_032,
                paths=("automl/NASLib/a06ba0e9931fcfd4605ddbddb6ed068eb58e58f1/naslib/data/zc_nasbench201.json",),
            ),
        ),
    ),
)
