"""What needs a process of its own: the start until the first result, and the most memory that a run adds.

python -m benchmarks.child cold|memory CONTESTANT JSON     prints one JSON object
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.time()
ROOT = Path(__file__).resolve().parents[1]


def cold(contestant: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Load what an application would find on disk and answer once: ours the weights, the others a module or graph."""
    import numpy as np

    x = np.load(facts["input"])
    answer = _loader(contestant, facts)()(x)
    done = time.time()
    np.save(facts["output"], answer)
    return {"seconds": done - facts["begun"], "inside": done - STARTED}


def _loader(contestant: str, facts: dict[str, Any]) -> Callable[[], Callable[[Any], Any]]:
    """Imports nothing but what this contestant needs."""
    threads = facts["threads"]

    def ours() -> Callable[[Any], Any]:
        from mtfa_fast.engine.cpu import CpuEngine
        from mtfa_fast.weights import Weights

        assert "torch" not in sys.modules
        return CpuEngine(Weights.load(facts["weights"]), threads=threads).probabilities

    def torch() -> Callable[[Any], Any]:
        from mtfa_fast.measuring.torch_peers import Eager
        from mtfa_fast.weights import Weights

        batch, frames = facts["shape"]
        return Eager(Weights.load(facts["weights"]), "bf16", threads).prepare("network", batch, frames)

    def onnxruntime() -> Callable[[Any], Any]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(facts["onnx"], options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]

    def openvino() -> Callable[[Any], Any]:
        import openvino as ov

        settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        request = ov.Core().compile_model(facts["onnx"], "CPU", settings).create_infer_request()
        return lambda x: request.infer({0: x})[0]

    return {"mtfa-fast": ours, "torch": torch, "onnxruntime": onnxruntime, "openvino": openvino}[contestant]


def memory(contestant: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Bytes that one answer adds to the process that is ready to give it; ``hour``: seconds of audio, streamed."""
    import numpy as np

    from mtfa_fast.measuring.machine import added_memory

    found: list[float] = []
    if contestant == "stream":
        from mtfa_fast.engine.cpu import CpuEngine
        from mtfa_fast.weights import Weights

        weights = Weights.load(facts["weights"])
        rate = weights.config.features.sample_rate
        engine = CpuEngine(weights, threads=facts["threads"])
        block = (np.random.default_rng(0).standard_normal(rate) * 0.1).astype(np.float32)
        start = time.perf_counter()
        with added_memory(found):
            stream = engine.stream()
            for _ in range(round(facts["hour"])):
                stream.push(block)
            answer = stream.finish()
        if not np.isfinite(answer).all():
            raise SystemExit("the stream's answer is not finite")
        return {"bytes": found[0], "seconds": time.perf_counter() - start}
    x = np.load(facts["input"])
    call = _loader(contestant, facts)()
    with added_memory(found):
        answer = call(x)
    np.save(facts["output"], answer)
    return {"bytes": found[0]}


def run(what: str, contestant: str, facts: dict[str, Any]) -> dict[str, Any]:
    """In a new process. RuntimeError with the end of what it wrote to stderr where it fails."""
    command = [sys.executable, "-m", "benchmarks.child", what, contestant]
    given = json.dumps(facts | {"begun": time.time()})
    done = subprocess.run([*command, given], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{contestant}: {done.stderr.strip()[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


if __name__ == "__main__":
    job = {"cold": cold, "memory": memory}[sys.argv[1]]
    print(json.dumps(job(sys.argv[2], json.loads(sys.argv[3]))))
