"""A stand-in for a GPU: CUDA has eight, and what is moved to one stays where it is, and is written down."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

#: Bytes of its memory: free, and in all.
ROOMY, FULL = (90, 100), (10, 100)


@dataclass
class StandInGpu:
    """What was moved to which GPU: `networks` by the names of their classes, `tensors` by their shapes."""

    networks: list[tuple[str, str]] = field(default_factory=list)
    tensors: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def clear(self) -> None:
        self.networks.clear()
        self.tensors.clear()

    @property
    def devices(self) -> set[str]:
        """The GPUs to which anything was moved."""
        return {device for device, _ in (*self.networks, *self.tensors)}


def stand_in_gpu(monkeypatch: pytest.MonkeyPatch, memory: tuple[int, int] = ROOMY) -> StandInGpu:
    """Let this process believe in GPUs until the test ends."""
    gpu = StandInGpu()

    def moving(plain: Callable[..., Any], note: Callable[[Any, str], None]) -> Callable[..., Any]:
        def to(self: Any, *args: Any, **kwargs: Any) -> Any:
            where = args[0] if args else kwargs.get("device")
            if isinstance(where, str | torch.device) and torch.device(where).type == "cuda":
                note(self, str(where))
                return self
            return plain(self, *args, **kwargs)

        return to

    def of_network(network: torch.nn.Module, device: str) -> None:
        gpu.networks.append((device, type(network).__name__))

    def of_tensor(tensor: torch.Tensor, device: str) -> None:
        gpu.tensors.append((device, tuple(tensor.shape)))

    monkeypatch.setattr(torch.nn.Module, "to", moving(torch.nn.Module.to, of_network))
    monkeypatch.setattr(torch.Tensor, "to", moving(torch.Tensor.to, of_tensor))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: memory)
    return gpu
