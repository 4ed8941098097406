"""Addresses where no Ray is: one clear line, soon. Ray itself tries for two minutes and prints a screen."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtfa_fast.bulk import cluster, run
from mtfa_fast.commands.cli import main
from tests.face import make_weights

if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
    pytest.skip("Ray Data is not installed", allow_module_level=True)


@pytest.fixture
def closed() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def something_else() -> Iterator[int]:
    """A server that is no Ray and answers as web servers do."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


def test_addresses(
    closed: int,
    something_else: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_weights().save("w.safetensors")
    Path("in").mkdir()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def said(address: str) -> str:
        assert main(["bulk", "in", "out", "--weights", "w.safetensors", "--address", address]) == 2
        assert not Path("out").exists()
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err

    # Ray is not asked, but for where its cluster is: it would try for two minutes.
    start = cluster._start
    monkeypatch.setattr(cluster, "_start", lambda *_: pytest.fail("Ray was asked"))
    assert f"address: no Ray at 127.0.0.1:{closed}: Connection refused" in said(f"127.0.0.1:{closed}")
    assert "something else answers there" in said(f"127.0.0.1:{something_else}")
    assert "allowed: auto, or HOST:PORT" in said("ray://127.0.0.1:10001")
    assert "allowed: auto, or HOST:PORT" in said("head")
    with monkeypatch.context() as patch:
        patch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed}")
        assert "Connection refused" in said("auto")
    # As Ray says it where none runs; on this machine one may.
    monkeypatch.setattr(cluster, "_start", start)
    text = "Could not find any running Ray instance. Please specify the one to connect to by setting `--address`"
    monkeypatch.setattr(cluster.ray(), "init", lambda **_: (_ for _ in ()).throw(ConnectionError(text)))
    assert "no Ray at 'auto': Could not find any running Ray instance" in said("auto")


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ConnectionError, match=r"no Ray at .* timed out"),
    ):
        cluster.require_reachable(f"127.0.0.1:{server.getsockname()[1]}")


def test_arguments(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, text in (
        (["--cpus", "0"], "cpus: got 0, allowed: an integer >= 1"),
        (["--workers", "0"], "workers: got 0, allowed: an integer >= 1"),
        (["--partition", "0"], "partition_files: got 0, allowed: an integer >= 1"),
        (["--weights", "none"], "weights: no file"),
        (["-t", "2"], "threshold of babycry: got 2.0"),
    ):
        assert main(["bulk", str(tmp_path), str(tmp_path / "out"), *arguments]) == 2
        assert text in capsys.readouterr().err
    assert main(["bulk", str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert "source: no such file or folder" in capsys.readouterr().err


def test_workers_fit_into_a_node() -> None:
    assert [cluster._fits({"CPU": 8, "GPU": 2}, cpus, gpus) for cpus, gpus in ((3, 0), (3, 1), (1, 1), (9, 0))] == [
        2,
        2,
        2,
        0,
    ]
    assert cluster._fits({"CPU": 8}, 1, 1) == 0


def test_of_a_workers_failure_the_first_cause_is_told() -> None:
    text = """\x1b[36mray::MapWorker(MapBatches(Worker)).submit()\x1b[39m (pid=1, ip=192.0.2.2)
  File "worker.py", line 90, in work
    raise OSError(error.errno, error.strerror, os.fspath(path)) from None
OSError: [Errno 28] No space left on device: '/out/events/part-00000001.parquet'

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, configure `ray.data.DataContext.get_current()`."""
    said = run._first_cause(RuntimeError(text))
    assert said == "OSError: [Errno 28] No space left on device: '/out/events/part-00000001.parquet'"
    assert run._first_cause(RuntimeError("The actor died.\nWhy?")) == "The actor died."
