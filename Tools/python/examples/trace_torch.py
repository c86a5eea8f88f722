"""Records what the modules of a PyTorch model compute, in order, as a trace for `touchstone localise`.

    with trace(model, "a.h5"):
        model(x)
"""

import contextlib
import json

import h5py
import torch


def _store(group, name, tensor):
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        group.create_dataset(name, data=tensor.view(torch.uint16).numpy()).attrs["element_type"] = "bf16"
    else:
        group.create_dataset(name, data=tensor.numpy())


@contextlib.contextmanager
def trace(model, path):
    """Every call of a module without children becomes an entry; bf16 products without a bias are `dot.gemm`."""
    calls = {}
    with h5py.File(path, "w", track_order=True) as file:
        cases = file.create_group("cases", track_order=True)

        def record(name, module, inputs, output):
            calls[name] = calls.get(name, -1) + 1
            case = cases.create_group(f"{name}.{calls[name]}" if calls[name] else name)
            tensors = {str(i): x for i, x in enumerate(inputs) if torch.is_tensor(x)}
            case.attrs["op"], recipe, result = f"torch.{type(module).__name__}", {}, "0"
            if isinstance(module, torch.nn.Linear) and module.bias is None and output.dtype == torch.bfloat16:
                case.attrs["op"], recipe, result = "dot.gemm", {"dot": "chain-ieee", "output": "bf16"}, "d"
                tensors = {"a": inputs[0].flatten(0, -2), "b": module.weight.T}
                output = output.flatten(0, -2)
            case.attrs["recipe"] = json.dumps(recipe)
            for key, tensor in tensors.items():
                _store(case.require_group("inputs"), key, tensor)
            if torch.is_tensor(output):
                _store(case.require_group("outputs"), result, output)

        hooks = [
            module.register_forward_hook(lambda m, x, y, name=name: record(name, m, x, y))
            for name, module in model.named_modules()
            if not list(module.children())
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
