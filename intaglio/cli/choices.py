"""The words an option can have, from the code that decides it, looked up when they are needed."""

from collections.abc import Callable


def targets() -> list[str]:
    """Devices of `build`."""
    from intaglio.codegen.area.devices import DEVICES

    return list(DEVICES)


def presets() -> list[str]:
    """Arithmetics."""
    from intaglio.fixed import PRESETS

    return list(PRESETS)


def roundings() -> list[str]:
    """Of right shifts."""
    from intaglio.fixed import ROUNDINGS

    return list(ROUNDINGS)


def boards() -> list[str]:
    """Of `build` and `bitstream`."""
    from intaglio.codegen.area.boards import BOARDS

    return list(BOARDS)


def cells() -> list[str]:
    """Models of a device's cells, of `verify --gates`."""
    from intaglio.chip.synthesis import CELLS

    return [*CELLS, "generic"]


def splits() -> list[str]:
    """Of the digits in scenes."""
    from intaglio.detect.scenes import SPLITS

    return list(SPLITS)


CHOICES: dict[str, Callable[[], list[str]]] = {
    "--target": targets,
    "--arithmetic": presets,
    "--rounding": roundings,
    "--board": boards,
    "--cells": cells,
    "--split": splits,
}


def listed(option: str) -> list[str]:
    """The words of an option, none where it has no list."""
    found = CHOICES.get(option)
    return found() if found else []


def completing(option: str) -> Callable[[str], list[str]]:
    """For a shell: the words that begin as what is typed."""
    return lambda incomplete: [w for w in listed(option) if w.startswith(incomplete)]
