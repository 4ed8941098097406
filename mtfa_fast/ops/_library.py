"""The one place that talks to torch.library: how an op of the namespace ``mtfa_fast`` is registered.

``Library.define``/``impl`` and not the ``custom_op`` decorator: a call costs about a third.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMESPACE = "mtfa_fast"
_library = torch.library.Library(NAMESPACE, "DEF")
_AUTOCAST_DEVICES = ("cpu", "cuda")

Rule = Callable[[str, list[Tensor]], torch.dtype]


def define(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> torch._ops.OpOverload[..., Any]:
    """Declares an op: ``run`` computes on any device, ``fake`` tells shapes, strides and dtypes without data."""
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    overload: torch._ops.OpOverload[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    return overload


def differentiable(name: str, backward: Callable[..., Any], save: Callable[..., None]) -> None:
    """``save(ctx, inputs, output)`` keeps what ``backward(ctx, *grads)`` needs."""
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=save, lib=_library)


def not_differentiable(name: str, advice: str) -> None:
    """Differentiating the op raises. Without a formula torch would go on with a wrong or no gradient."""

    def backward(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError(f"mtfa_fast.ops.{name} is not differentiable: {advice}")

    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, lib=_library)


def refuse_forward_mode(name: str, *tensors: Tensor) -> None:
    """Raises where a tensor has a tangent. Ops of torch.library have no forward mode: torch goes on with zeros."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise NotImplementedError(f"mtfa_fast.ops.{name} has no forward-mode derivative; use the plain torch modules.")


def widest(device_type: str, tensors: list[Tensor]) -> torch.dtype:
    """Autocast rule of element-wise ops: torch's own type promotion."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def autocast_dtype(device_type: str, tensors: list[Tensor]) -> torch.dtype:
    """Autocast rule of convolutions: the dtype that the context asks for."""
    return torch.get_autocast_dtype(device_type)


def autocast(op: torch._ops.OpOverload[..., Any], rule: Rule | None, only: Collection[int] | None = None) -> None:
    """Under torch.autocast the op's floating-point tensors are cast to ``rule(device type, tensors)``.

    ``only``: the positions of the arguments that this is for, all of them by default.

    Either way, and without a rule, the op's own matrix products are left alone: a kernel that ran them in
    the context's dtype would return another one than its fake tells.
    """
    for device_type in _AUTOCAST_DEVICES:
        _autocast_on(device_type, op, rule, only)


def _autocast_on(
    device_type: str, op: torch._ops.OpOverload[..., Any], rule: Rule | None, only: Collection[int] | None
) -> None:
    key = f"Autocast{torch._C._dispatch_key_for_device(device_type)}"
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(*args: Any) -> Any:
        if rule is not None:
            tensors = [t for a in args for t in (a if isinstance(a, (list, tuple)) else (a,)) if _castable(t)]
            dtype = rule(device_type, tensors)
            args = tuple(_cast(a, dtype) if only is None or i in only else a for i, a in enumerate(args))
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return op(*args)

    _library.impl(op._schema.name.partition("::")[2], kernel, key)


def _castable(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (list, tuple)):
        return [_cast(v, dtype) for v in value]
    return value.to(dtype) if _castable(value) else value


def batched(name: str, run: Callable[..., Any]) -> None:
    """torch.vmap for an op whose tensor arguments all have the batch as dimension 0.

    ``run`` is the op; the mapped dimension is folded into that batch and the result unfolded.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        folded = []
        for arg, dim in zip(args, in_dims, strict=True):
            if isinstance(arg, Tensor):
                arg = arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)
                arg = arg.flatten(0, 1)
            folded.append(arg)
        out = run(*folded)
        if isinstance(out, Tensor):
            return out.unflatten(0, (size, -1)), 0
        return tuple(o.unflatten(0, (size, -1)) for o in out), (0,) * len(out)

    torch.library.register_vmap(f"{NAMESPACE}::{name}", rule, lib=_library)
