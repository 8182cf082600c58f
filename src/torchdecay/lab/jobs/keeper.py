"""Stands between a sweep and one of its commands, so that no process of the command outlives the sweep.

Run as a script, without torchdecay: keeper.py PIPE GRACE COMMAND... . The pipe's other end is the sweep's: when it
ends, the sweep is dead, and every process of the command is killed at once; what is written to it asks them to end,
by SIGTERM, and kills what is there after the grace. The exit code is the command's.
"""

import contextlib
import os
import select
import signal
import sys
import time


def main() -> int:
    """Run the command, and watch over it."""
    pipe, grace, words = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    os.set_inheritable(pipe, False)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    child = os.fork()
    if not child:
        become(words)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)

    def send(number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(child, number)

    listened, deadline = [pipe, woken], float("inf")
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        left = deadline - time.monotonic()
        ready, _, _ = select.select(listened, [], [], None if left == float("inf") else max(0.0, left))
        if woken in ready:
            os.read(woken, 1024)
        if pipe in ready:
            if os.read(pipe, 1):
                send(signal.SIGTERM)
                deadline = time.monotonic() + grace
            else:
                listened.remove(pipe)
                send(signal.SIGKILL)
        if time.monotonic() >= deadline:
            send(signal.SIGKILL)
            deadline = float("inf")
    # Workers of a data loader, say, that nobody waits for.
    send(signal.SIGKILL)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def become(words: list[str]) -> None:
    """Be the command, in a process group of its own; with this keeper it dies too, where Linux sees to that."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        os.execvp(words[0], words)
    except BaseException as error:
        os.write(2, f"torchdecay: {words[0]} can't be started: {error}\n".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
