"""Commands inside an environment: PYTHON -I trial.py FILE.json, a list of lists of arguments.

Prints a JSON list: of each command its exit code and its last words. It knows nothing but the
standard library and the intaglio that is installed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from pathlib import Path

import intaglio.cli


def command(arguments: list[str]) -> tuple[int, str]:
    """Exit code and what was said on the standard error, in this process."""
    sys.argv = ["intaglio", *arguments]
    code, err = 0, io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            intaglio.cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:  # a traceback, as a user would see it
            return 1, traceback.format_exc()
    return code, err.getvalue()


if __name__ == "__main__":
    print(json.dumps([command(line) for line in json.loads(Path(sys.argv[1]).read_text())]))
