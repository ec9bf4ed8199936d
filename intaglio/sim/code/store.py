"""Where machine code is kept: NUMBA_CACHE_DIR, else the user's cache folder, else a temporary one;
where nothing can be written, each process compiles for itself.

A file says by its first bytes whether the rest is whole.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from contextlib import suppress
from pathlib import Path

from intaglio.errors import DataError
from intaglio.sim.code.target import setting
from intaglio.system.disk import private_folder, reason, user_cache, write_bytes

SIZE = hashlib.sha256().digest_size


def kept(file: str) -> bytes | None:
    """What `keep` was given; None where there is nothing whole."""
    for folder in folders():
        with suppress(OSError):
            content = (folder / file).read_bytes()
            if content and content[:SIZE] == hashlib.sha256(content[SIZE:]).digest():
                return content[SIZE:]
    return None


def keep(file: str, made: bytes) -> None:
    """Write it, if that can be done; where that is the temporary folder, say so."""
    refused = ""
    for folder in folders(make=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / file, hashlib.sha256(made).digest() + made)
        except OSError as error:
            refused = refused or f"{folder} must be writable, not: {reason(error)}."
        except DataError as error:
            refused = refused or str(error)
        else:
            if refused:
                tell(f"intaglio: compiled code is kept in {folder}. {refused}")
            return


@functools.cache
def tell(sentence: str) -> None:
    """Once in a process, on the standard error."""
    print(sentence, file=sys.stderr)


def folders(*, make: bool = False) -> list[Path]:
    """Where machine code is kept, in the first that can be written, and looked for: the one that is
    stated or the user's, and a temporary one, if it is there or to `make`."""
    stated, cache = setting("CACHE_DIR"), user_cache()
    found = [Path(stated)] if stated else [cache / "intaglio"] if cache else []
    with suppress(OSError):
        found.append(private_folder(make=make))
    return found
