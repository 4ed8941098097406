"""The ``mtfa-fast`` program: parses a command line, runs one of ``mtfa_fast.commands``, turns errors into exit codes.

0: done. 1: done, but some inputs failed. 2: the command is wrong, nothing was done. 130: interrupted; 129, 143: the
terminal was closed, or somebody asked the process to end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cyclopts import App, CycloptsError, Parameter

from .. import __version__
from .bench import bench
from .bulk import bulk
from .common import UsageError, audio_warnings, say
from .detect import detect
from .evaluate import evaluate
from .experiment import experiment
from .export import export
from .info import info
from .listen import listen
from .pack import pack
from .pool import pool
from .quantize import quantize
from .synthesize import synthesize
from .train import train
from .tune import tune
from .verify import verify
from .visualize import visualize

app = App(
    name="mtfa-fast",
    help="Sound event detection with MTFA, the multi-scale time-frequency attention network.",
    version=__version__,
    default_parameter=Parameter(negative=()),  # no --no-... and --empty-... twins
    suppress_keyboard_interrupt=False,
)
_COMMANDS = (
    detect,
    listen,
    bulk,
    train,
    evaluate,
    tune,
    quantize,
    synthesize,
    pack,
    pool,
    experiment,
    visualize,
    verify,
    bench,
    export,
    info,
)
for _command in _COMMANDS:
    app.command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``mtfa-fast`` with these arguments (default: the process's) and return its exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a strange file name must not end a run
    try:
        with _ended_politely(), audio_warnings():
            code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
        return int(code or 0)
    except CycloptsError as error:
        say(f"mtfa-fast: {error}\nmtfa-fast --help and mtfa-fast COMMAND --help show what is allowed")
        return 2
    except UsageError as error:
        say(f"mtfa-fast: {error}")
        return 2
    except BrokenPipeError:
        # The reader has what it wanted (`| head`); the interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ImportError) as error:  # a full disk; an installation without its C++ core
        say(f"mtfa-fast: {error}")
        return 1
    except Ended as error:
        say(f"mtfa-fast: ended by {error.signal.name}")
        return 128 + error.signal
    except KeyboardInterrupt:
        say("mtfa-fast: interrupted")
        return 130


class Ended(KeyboardInterrupt):
    """Another signal than Ctrl-C's that asks the process to end: what that one keeps and removes, these do, too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


@contextmanager
def _ended_politely() -> Iterator[None]:
    """SIGTERM and SIGHUP raise :class:`Ended`, unless somebody (nohup, say) has decided about them."""

    def end(number: int, _: object) -> None:
        raise Ended(number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
