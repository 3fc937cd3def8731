"""The benchmark micro-vit: the colour photographs that it trains on.

python benchmarks/micro_vit.py photos FILE OUT   make OUT, photos.npz, of an .npz file with CIFAR-10's arrays
                                                 (x_train, y_train, x_test, y_test; 32 × 32 pixels, uint8)
"""

import sys
from pathlib import Path

import numpy as np


def photos(source: Path, out: Path) -> None:
    """Write the photographs as `bench train` reads them, with pictures of our own for the probe `data`.

    No licence is stated for the photographs: they may be trained on here, and nothing of them is passed on.
    """
    with np.load(source, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    pictures = clouds(32)
    np.savez(out, **arrays, probe_images=pictures, probe_labels=np.arange(len(pictures)) % 10)


def clouds(count: int, size: int = 32) -> np.ndarray:
    """Coloured clouds, uint8, count × size × size × 3: noise whose amplitude falls as 1 / frequency; seeded.

    Natural images have that spectrum (Field 1987, doi 10.1364/JOSAA.4.002379), and colours that go together: the three
    channels have a pattern in common, and a weaker one of their own.
    """
    rng = np.random.default_rng(0)
    across = np.fft.fftfreq(size)
    frequency = np.hypot(across[:, None], across)
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.normal(size=(count, 4, size, size))) / frequency
    patterns = np.fft.ifft2(noise).real
    patterns /= patterns.std((2, 3), keepdims=True)
    mixed = 0.8 * patterns[:, :1] + 0.6 * patterns[:, 1:]
    return np.clip(120 + 60 * mixed, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["photos", source, out]:
            photos(Path(source), Path(out))
        case _:
            sys.exit(__doc__)
