"""What the host program of a board carries with it: modules of intaglio that need NumPy and Pillow
alone, so that there is one definition of how a picture is read and what is seen in it."""

from __future__ import annotations

from importlib.resources import files

HOST = "host.py"
CARRIED = (
    "chip/protocol.py", "chip/sight.py", "chip/spi_line.py", "cosim/port.py", "detect/decode.py",
    "detect/draw.py", "detect/heads/anchors.py", "detect/heads/coders.py", "detect/heads/kinds.py",
    "detect/heads/maps.py", "detect/heads/scores.py", "detect/images.py",
    "detect/networks/kinds.py", "detect/networks/spec.py", "detect/own.py", "detect/pictures.py",
    "detect/seen.py", "errors.py", "fixed.py", "hdl/pack.py", "multiplier.py", "ops/__init__.py",
    "ops/arithmetic.py", "ops/base.py", "ops/choosing.py", "ops/interpolation.py", "program.py",
    "system/html.py", "system/named.py", "system/stored.py",
)  # fmt: skip


def host_files() -> dict[str, str]:
    """The program and a folder `intaglio` beside it, which Python finds before an installed one."""
    package = files("intaglio")
    texts = {f"intaglio/{path}": (package / path).read_text("utf-8") for path in CARRIED}
    rooms = {path.rpartition("/")[0] for path in texts}
    rooms |= {room.rpartition("/")[0] for room in rooms if room != "intaglio"}
    inits = {f"{room}/__init__.py": '"""A part of intaglio, for host.py."""\n' for room in rooms}
    return {HOST: (package / "chip" / HOST).read_text("utf-8"), **inits, **texts}
