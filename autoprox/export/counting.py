"""Counting: the parts of an exported file that count what a network makes, and that read the logits of attention."""

COUNTED = '''\
def counted(model: torch.nn.Module, linears: list[str], x: Tensor, seed: int) -> tuple[dict[str, float], float]:
    """Return the tokens of each layer, and the multiply-adds of the network on one sample of zeros."""
    with untouched(model, seed) as own, Outputs(model, linears) as outputs:
        # The counter does not know the fused attention of every device, but it does know the products in it.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            _, flops = count_flops(lambda: torch.func.functional_call(model, own, (torch.zeros_like(x[:1]),)))
        tokens = {path: outputs[path].numel() / outputs[path].shape[-1] for path in linears}
    return tokens, flops / 2
'''

ACTIVATIONS = '''\
class OutputCounter(TorchFunctionMode):
    """Counts the elements that convolutions and linears make, while a model runs inside.

    A product with a matrix of the model is a linear too; `own` are the model's parameters.
    """

    LAYERS = (
        *(torch.nn.functional.linear, torch.conv1d, torch.conv2d, torch.conv3d),
        *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    )
    PRODUCTS = (torch.matmul, torch.mm, torch.addmm, torch.einsum, Tensor.matmul, Tensor.mm, Tensor.__matmul__)

    def __init__(self, own: Iterable[Tensor]) -> None:
        super().__init__()
        self.count = 0
        self.storages = {tensor.untyped_storage().data_ptr() for tensor in own if tensor.ndim == 2}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in self.LAYERS or (function in self.PRODUCTS and any(map(self.is_own, args))):
            self.count += result.numel()
        elif function is torch.nn.functional.multi_head_attention_forward:  # the outputs of its four linears
            query, key = args[:2]
            self.count += 2 * query.numel() + 2 * key.numel() // key.shape[-1] * query.shape[-1]
        return result

    def is_own(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.ndim == 2 and value.untyped_storage().data_ptr() in self.storages


def count_activations(model: torch.nn.Module, x: Tensor, seed: int) -> float:
    """Return how many elements the convolutions and linears make of one sample of zeros."""
    with untouched(model, seed) as own, torch.no_grad(), OutputCounter(model.parameters()) as counter:
        torch.func.functional_call(model, own, (torch.zeros_like(x[:1]),))
    return float(counter.count)
'''

LOGITS = '''\
class Inputs(Outputs):
    """The first arguments of modules by path, as a forward pass inside the context gives them."""

    def keeper(self, path: str):
        def keep(module: torch.nn.Module, args: tuple, output: Tensor) -> None:
            if args[0].shape != output.shape:
                raise LayerError(f"attn_logits: '{path}' is no softmax: what it reads are no logits")
            self[path] = unmasked(args[0].detach().clone())

        return keep
'''
