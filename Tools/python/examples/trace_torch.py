"""Records what the modules of a PyTorch model compute, in order, as a trace for `touchstone localise`.

    with trace(model, "a.h5"):
        model(x)
"""

import contextlib
import json

import h5py
import torch


def _tensors(value, name=""):
    """The tensors of nested tuples, lists and dicts as (name, tensor): 0, 1.0, hidden."""
    if torch.is_tensor(value):
        yield name or "0", value
    elif isinstance(value, (tuple, list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(item, f"{name}.{key}" if name else str(key).replace("/", "."))


def _store(group, tensors):
    for name, tensor in tensors:
        tensor = tensor.detach().cpu().contiguous()
        tensor = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
        is_bf16 = tensor.dtype == torch.bfloat16
        data = group.create_dataset(name, data=(tensor.view(torch.uint16) if is_bf16 else tensor).numpy())
        if is_bf16:
            data.attrs["element_type"] = "bf16"


@contextlib.contextmanager
def trace(model, path):
    """Every call of a module without children becomes an entry; bf16 products without a bias are `dot.gemm`."""
    calls, open_entries, hooks = {}, [], []
    with h5py.File(path, "w", track_order=True) as file:
        cases = file.create_group("cases", track_order=True)

        def before(name, module, args, kwargs):
            calls[name] = calls.get(name, -1) + 1
            case = cases.create_group(f"{name}.{calls[name]}" if calls[name] else name, track_order=True)
            open_entries.append(case)
            product = isinstance(module, torch.nn.Linear) and module.bias is None and len(args) == 1 and not kwargs
            product = product and args[0].dtype == module.weight.dtype == torch.bfloat16
            case.attrs["op"] = "dot.gemm" if product else f"torch.{type(module).__name__}"
            case.attrs["recipe"] = json.dumps({"dot": "chain-ieee", "output": "bf16"} if product else {})
            # Stored now: the module may write its result over them.
            given = [("a", args[0].reshape(-1, args[0].shape[-1])), ("b", module.weight.T)] if product else [
                *_tensors([*args, *([kwargs] if kwargs else [])]), *module.named_parameters(), *module.named_buffers()]
            _store(case.create_group("inputs", track_order=True), given)

        def after(module, args, kwargs, output):
            case = open_entries.pop()
            product = case.attrs["op"] == "dot.gemm"
            made = [("d", output.reshape(-1, output.shape[-1]))] if product else _tensors(output)
            _store(case.create_group("outputs", track_order=True), made)

        for name, module in model.named_modules():
            if not list(module.children()):
                entry = name or type(module).__name__
                hooks.append(module.register_forward_pre_hook(
                    lambda m, x, k, entry=entry: before(entry, m, x, k), with_kwargs=True))
                hooks.append(module.register_forward_hook(after, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
