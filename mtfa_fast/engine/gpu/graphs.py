"""Functions of one tensor as CUDA graphs: captured for a shape, replayed instead of some sixty launches."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOG = logging.getLogger(__name__)
MOST_GRAPHS = 16
CAPTURE_AT = 2  # the same shape seen this often is likely to come again
# Captures of two threads at a time could disturb each other (they share torch's allocator and random state), and two
# engines have two locks.
_CAPTURING = threading.Lock()

Function = Callable[[Tensor], Tensor]
Capture = Callable[[Function, Tensor], Function]
Key = tuple[str, int, int]


def cuda_capture(stream: torch.cuda.Stream) -> Capture:
    """Capturing on ``stream``, all graphs in one private memory pool.

    One pool can serve them all because they run one after the other on one stream: what a graph computes in between is
    needed no more when the next one starts, and its result is copied out before that.
    """
    pool: Any = torch.cuda.graph_pool_handle()

    def capture(function: Function, x: Tensor) -> Function:
        held = x.clone()
        function(held)  # what compiles, measures or allocates for good does so now
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads copy and allocate meanwhile, which the global mode would take for a mistake of ours.
        with _CAPTURING, torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            out = function(held)

        def replay(x: Tensor) -> Tensor:
            held.copy_(x)
            graph.replay()
            return out.clone()

        return replay

    return capture


class Programs:
    """Runs named functions of (B, T, ...), by a graph where there is one for the name and the shape.

    A shape is captured when :meth:`capture` asks for it, where the graph that was not used for longest makes room for
    the seventeenth; or, while there is room, when it comes for the second time. ``capture``: None runs everything as
    it is.
    """

    def __init__(self, capture: Capture | None) -> None:
        self._capture = capture
        self._graphs: OrderedDict[Key, Function] = OrderedDict()
        self._seen: Counter[Key] = Counter()
        self.refused: dict[Key, str] = {}

    @property
    def keys(self) -> list[Key]:
        return list(self._graphs)

    def holds(self, name: str, frames: int) -> bool:
        """Whether there is a graph of ``name`` for any batch of ``frames`` frames."""
        return any(key[0] == name and key[2] == frames for key in self._graphs)

    def run(self, name: str, function: Function, x: Tensor) -> Tensor:
        key = (name, x.shape[0], x.shape[1])
        if key not in self._graphs and self._capture is not None and len(self._graphs) < MOST_GRAPHS:
            self._seen[key] += 1
            if self._seen[key] >= CAPTURE_AT:
                self.capture(name, function, x)
        if (graph := self._graphs.get(key)) is None:
            return function(x)
        self._graphs.move_to_end(key)
        return graph(x)

    def capture(self, name: str, function: Function, x: Tensor) -> None:
        """Makes the graph for ``x``'s shape if there is none; where that fails the function goes on without."""
        key = (name, x.shape[0], x.shape[1])
        if self._capture is None or key in self._graphs or key in self.refused:
            return
        start = time.perf_counter()
        shape = f"{name} of {key[1]} x {key[2]} frames"
        try:
            graph = self._capture(function, x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's are no RuntimeErrors
            self.refused[key] = (str(error) or type(error).__name__).splitlines()[0]
            LOG.warning("no CUDA graph for the %s, it runs without: %s", shape, self.refused[key])
            return
        while len(self._graphs) >= MOST_GRAPHS:
            self._graphs.popitem(last=False)
        self._graphs[key] = graph
        LOG.info("CUDA graph for the %s, %.2f s", shape, time.perf_counter() - start)

    def clear(self) -> None:
        """Gives the graphs' memory back."""
        self._graphs.clear()
        self._seen.clear()
