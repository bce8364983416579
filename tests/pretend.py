"""A device that is not there, for machines without a GPU: its tensors lie on the CPU, call
themselves "lazy" and keep a GPU's rules.

Where tensors of two devices meet in an operation, where one of them is turned into a NumPy array
and where a generator of the CPU fills one, it raises RuntimeError or TypeError, as CUDA does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from minildm.device import set_default_device

DEVICE = torch.device("lazy", 0)  # a name that torch knows, of a device that nobody has
aten = torch.ops.aten
# Copies between devices, and the only operations whose indices may lie on the CPU.
MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_", "aten::index_put"}
MAY_MIX |= {"aten::_index_put_impl_", "aten::set_data", "aten::_foreach_copy_"}


class Pretended(Tensor):
    """A tensor on the device that is not there; `held` is what it holds on the CPU."""

    @staticmethod
    def __new__(cls, real: Tensor) -> "Pretended":
        return Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=DEVICE,
        )

    def __init__(self, real: Tensor):
        self.held = real

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if func in (Tensor.tolist, Tensor.__repr__, Tensor.__format__, Tensor.__reduce_ex__):
                return func(args[0].cpu(), *args[1:])
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError("can't convert a tensor on the device to numpy; use Tensor.cpu()")
            if func == Tensor.data.__set__ and isinstance(args[1], Pretended):
                args[0].held = args[1].held
            if func == Tensor.__getitem__ and isinstance(args[1], list):
                args = (args[0], torch.tensor(args[1], device="cpu"))
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})


class Watch(TorchDispatchMode):
    """Sees every operation, also those whose tensors all lie on the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})


class Construct(TorchFunctionMode):
    """`torch.tensor` and its like ask the device itself, past every mode: they are spared that."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        options = dict(kwargs or {})
        if func not in (torch.tensor, torch.as_tensor, torch.asarray):
            return func(*args, **options)
        device = torch.device(options.pop("device", None) or torch.get_default_device())
        if func is not torch.tensor and isinstance(args[0], Tensor):
            return args[0].to(device, options.get("dtype"))
        requires_grad = options.pop("requires_grad", False)
        args = tree_map(lambda part: part.item() if isinstance(part, Pretended) else part, args)
        made = func(*args, **options, device="cpu").to(device)
        return made.requires_grad_() if requires_grad else made


def carry_out(func, args, kwargs):
    """Do the operation on the CPU, if a GPU would do it, and pretend that it was done there."""
    parts = tree_flatten((args, kwargs))[0]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    name = func._schema.name
    strangers = [t for t in tensors if t.device.type == "cpu" and t.ndim]
    if there and strangers and name not in MAY_MIX:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices in "
            f"{name}: {[(t.device.type, *t.shape) for t in tensors]}"
        )
    if name.startswith("aten::index") and tensors and not isinstance(args[0], Pretended) and there:
        if args[0].device.type == "cpu":
            raise RuntimeError(f"{name}: expected indices on the device of the tensor, the CPU")
    generators = [part for part in parts if isinstance(part, torch.Generator)]
    wanted = kwargs.get("device")
    here = bool(there) if wanted is None else torch.device(wanted).type == DEVICE.type
    if generators and here:
        raise RuntimeError("Expected a generator of the device, but found one of the CPU")
    if here and wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*tree_map(_real, args), **tree_map(_real, kwargs))
    if name in ("aten::copy_", "aten::_index_put_impl_", "aten::index_put_"):
        here = isinstance(args[0], Pretended)
    if func._schema.is_mutable and not isinstance(out, tuple | list):
        return args[0] if isinstance(args[0], Tensor) else out
    return tree_map(_wrap, out) if here else out


def _real(part):
    return part.held if isinstance(part, Pretended) else part


def _wrap(part):
    plain = isinstance(part, Tensor) and not isinstance(part, Pretended)
    return Pretended(part) if plain else part


def _chosen(name: str = "auto") -> torch.device:
    """As `default_device`, on a machine that has the device."""
    return DEVICE if name == "auto" else torch.device(name)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Everything new is made on the device that is not there, as on a machine that has it."""
    fused = optimizer._get_fused_kernels_supported_devices
    with (
        mock.patch.object(
            optimizer, "_get_fused_kernels_supported_devices", lambda: [*fused(), DEVICE.type]
        ),
        mock.patch("minildm.device.default_device", _chosen),
        Watch(),
        Construct(),
    ):
        try:
            yield set_default_device()
        finally:
            set_default_device("cpu")
