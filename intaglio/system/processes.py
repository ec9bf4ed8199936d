"""Programs that intaglio starts: all of them start in the environment made here.

Those that came with this installation are found first, whether or not it was activated: a package
calls its scripts by name, and a system may have none of that name, or another. What they keep
between runs goes to the user's cache folder, and where that cannot be written, as in containers, to
a temporary one: several of them end with an error otherwise.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from intaglio.errors import DataError
from intaglio.system.disk import make_folder, private_folder, reason, user_cache
from intaglio.system.interrupts import held

PATIENCE = 5.0  # seconds, for a program that is asked to end


def environment() -> dict[str, str]:
    """The environment of a child process."""
    found = {"ORT_DISABLE_TELEMETRY": "1", **os.environ}  # see `exchange.runtime`
    found["PATH"] = os.pathsep.join([*own_folders(), found.get("PATH") or os.defpath])
    kept = kept_folder()
    if kept is not None and kept != user_cache():
        found["XDG_CACHE_HOME"] = str(kept)
        if os.path.expanduser("~") == "~":  # some do not even look further without a home
            found["HOME"] = str(kept)
    return found


def kept_folder() -> Path | None:
    """Where programs can keep what they need again; None where nothing can be written."""
    cache = user_cache()
    if cache is not None and can_keep(cache):
        return cache
    with suppress(OSError):
        return private_folder(make=True)
    return None


def own_folders() -> list[str]:
    """Where the programs of this installation lie."""
    beside = [str(Path(sys.executable).parent)] if sys.executable else []
    return list(dict.fromkeys([*beside, sysconfig.get_path("scripts")]))


@cache
def can_keep(folder: Path) -> bool:
    """Whether a file of some size can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 16))
    except OSError:
        return False
    return True


def find_program(name: str) -> str | None:
    """The path of a program as a child process finds it; None where there is none."""
    return shutil.which(name, path=environment()["PATH"])


@contextmanager
def for_libraries() -> Iterator[None]:
    """The same environment for libraries that start programs by themselves."""
    before = dict(os.environ)
    changed = {name: value for name, value in environment().items() if before.get(name) != value}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def run_logged(
    command: Sequence[str], folder: Path, log: Path, more: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a program in `folder`: its exit code, and all that it printed, which goes to the file
    `log` as it comes.

    more  what is added to its environment.

    Raises DataError where the log cannot be written; then the program is stopped and no log left.
    FileNotFoundError where there is no such program.
    """
    make_folder(log.parent)
    printed = []
    try:
        with (
            log.open("wb", buffering=0) as file,
            subprocess.Popen(
                command, cwd=folder, env=environment() | dict(more or {}), stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, process_group=0,
            ) as child,
        ):  # fmt: skip
            assert child.stdout is not None
            try:
                while part := os.read(child.stdout.fileno(), 1 << 16):
                    printed.append(part)
                    file.write(part)
            except BaseException:  # an interruption too: nobody waits for it any more
                with held():
                    end(child)
                raise
    except FileNotFoundError:
        raise
    except OSError as error:
        if log.is_file():  # a device is not ours to remove
            log.unlink()
        raise DataError(f"{log} must be writable, not: {reason(error)}.") from error
    return child.returncode, b"".join(printed).decode("utf-8", "replace")


def run_apart(script: Path, words: Sequence[object], seconds: float) -> str:
    """Run a script of ours in a process of its own, without intaglio and with a limit of time, so
    that nothing that happens to it happens to us; why it stopped, nothing where it came to its end.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", str(script), *map(str, words)], env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"it did not answer within {seconds:g} seconds"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"it stopped with {how} on the file" if code else ""


def end(child: "subprocess.Popen[bytes]") -> None:
    """Stop a program that has a process group of its own, with all that it has started: they may
    put away what they are making, but not take long over it."""
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, number)
            child.wait(patience)
            return


def complaint(printed: str) -> str:
    """The line of a failed program's words that says most: the first error, else the last; the last
    of a Python program that ended with a traceback."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if any(line.startswith("Traceback (") for line in lines):
        return lines[-1]
    return next((line for line in lines if "rror" in line), lines[-1] if lines else "no message")
