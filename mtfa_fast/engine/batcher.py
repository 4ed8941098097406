"""Calls from many threads become few calls with many items. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Request(Generic[Item, Answer]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.answer: Callable[[], Answer] | None = None
        self.error: BaseException | None = None


class Batcher(Generic[Item, Answer]):
    """Calls from many threads become few calls with many items, without ever waiting for company.

    Whoever comes while nothing runs is served at once. Those who come meanwhile form the next batch. ``run`` takes
    items and starts their work; it answers with a function for each that waits for it. The second batch may start
    before the first is done, the third may not, so that batches can form.
    """

    def __init__(self, run: Callable[[list[Item]], list[Callable[[], Answer]]], limit: int) -> None:
        self._run, self._limit = run, limit
        self._waiting: list[_Request[Item, Answer]] = []
        self._list, self._turn = threading.Lock(), threading.Lock()
        self._before: Callable[[], Answer] | None = None

    def __call__(self, item: Item) -> Answer:
        request = _Request[Item, Answer](item)
        with self._list:
            self._waiting.append(request)
        while request.answer is None and request.error is None:
            with self._turn:
                if request.answer is None and request.error is None:
                    self._serve()
        if request.error is not None:
            raise request.error
        assert request.answer is not None
        return request.answer()

    def _serve(self) -> None:
        """The batch of those who waited longest."""
        before, self._before = self._before, None
        if before is not None:
            before()
        with self._list:
            batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
        try:
            answers = self._run([request.item for request in batch])
        except BaseException as error:
            for request in batch:
                request.error = error
            return
        for request, answer in zip(batch, answers, strict=True):
            request.answer = answer
        self._before = answers[-1]
