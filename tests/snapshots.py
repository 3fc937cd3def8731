"""Snapshots of a model and of the random generators: what scoring must leave as it was."""

import random

import numpy as np
import torch
from torch import nn


class Snapshot:
    """Everything of a model and of the random generators that scoring might change."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
        self.flags = [(p.requires_grad, p.data_ptr(), p._version) for p in model.parameters()]
        self.modes = [module.training for module in model.modules()]
        self.hooks = [(len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
        self.generators = (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist())

    def check(self, model: nn.Module) -> None:
        now = Snapshot(model)
        assert all(torch.equal(self.state[name], now.state[name]) for name in self.state)
        for name, gradient in self.gradients.items():
            assert (now.gradients[name] is None) if gradient is None else torch.equal(gradient, now.gradients[name])
        assert (self.flags, self.modes, self.hooks) == (now.flags, now.modes, now.hooks)
        assert self.generators == now.generators
