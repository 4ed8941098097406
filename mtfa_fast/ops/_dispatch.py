"""Which backend runs an op: a ladder per device, asked from the top; every refusal has a reason."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor

from ..backends.support import Support

LADDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("cuda", "triton", "reference"),
}
OTHER_DEVICES = ("reference",)
BACKENDS = ("cuda", "triton", "cpu", "reference")
_PACKAGE = __name__.rpartition(".ops.")[0] + ".backends"


class Table:
    """The backends of one function. ``backends/<backend>/<stem>.py`` holds a function called ``function``.

    Beside it stands ``supports`` (``supports_<rest>`` for a function called ``<stem>_<rest>``) with the
    same arguments, which answers with a :class:`Support`. The reference supports everything.
    """

    def __init__(self, function: str, stem: str | None = None) -> None:
        self.function, self.stem = function, stem or function
        rest = function.removeprefix(self.stem).lstrip("_")
        self.predicate = f"supports_{rest}" if rest else "supports"

    def choose(self, backend: str, *args: Any) -> Callable[..., Any]:
        """The function to call with ``args``.

        ``"auto"`` walks the ladder of the arguments' device. A backend asked for by name is returned or
        refused with its reason as ValueError; nothing takes its place.
        """
        if backend != "auto":
            if backend not in BACKENDS:
                raise ValueError(f"backend: got {backend!r}, allowed: auto, {', '.join(BACKENDS)}")
            support = self.support(backend, *args)
            if not support.ok:
                raise ValueError(f"{self.function}: backend {backend!r} cannot run this: {support.reason}")
            return self._function(backend)
        for name in ladder(args):
            if self.support(name, *args).ok:
                return self._function(name)
        raise ValueError(f"{self.function}: no backend can run this. {self.report(*args)}")

    def support(self, backend: str, *args: Any) -> Support:
        """Whether ``backend`` can run the function with these arguments, and if not why."""
        module = load(backend, self.stem)
        if isinstance(module, str):
            return Support.no(module)
        if not hasattr(module, self.function):
            return Support.no(f"it has no {self.function}")
        if backend == "reference":
            return Support.yes()
        answer: Support = getattr(module, self.predicate)(*args)
        return answer

    def report(self, *args: Any) -> str:
        """One clause per backend on the ladder: what it answered."""
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in _tensors(args))
        answers = ((name, self.support(name, *args)) for name in ladder(args))
        return f"Given {shapes}: " + "; ".join(f"{name}: {'yes' if s.ok else s.reason}" for name, s in answers)

    def _function(self, backend: str) -> Callable[..., Any]:
        module = load(backend, self.stem)
        assert isinstance(module, ModuleType)
        function: Callable[..., Any] = getattr(module, self.function)
        return function


def ladder(args: Iterable[Any]) -> tuple[str, ...]:
    """The backends that ``"auto"`` asks, in this order, for the device of the first tensor."""
    return LADDERS.get(next(_tensors(args)).device.type, OTHER_DEVICES)


def _tensors(args: Iterable[Any]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from (t for t in arg if isinstance(t, Tensor))


@cache
def load(backend: str, stem: str) -> ModuleType | str:
    """The backend's module for an op, imported on first use, or the text of why there is none.

    The text is kept, so that a broken backend is reported as broken each time and not as absent.
    """
    name = f"{_PACKAGE}.{backend}.{stem}"
    if importlib.util.find_spec(name) is None:
        return f"mtfa_fast._core has no kernel for {stem}" if backend == "cpu" else f"it has no {stem}"
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever an import can raise is an answer here, and is shown
        return f"import failed: {type(error).__name__}: {error}"


def available_backends(op: str) -> dict[str, Support]:
    """For each backend, whether its module for ``op`` is there and imports, and if not why."""
    answers = {}
    for backend in BACKENDS:
        module = load(backend, op)
        answers[backend] = Support.no(module) if isinstance(module, str) else Support.yes()
    return answers
