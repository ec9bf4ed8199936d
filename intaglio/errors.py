"""Errors that a user can cause, each a single sentence.

The command line prints the message and exits with 2; no traceback is shown. The words follow one
form: "X must be ..., not Y", naming the layer or file, and then the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """One change after which a refusal is no longer made: an option of `command` and its new value,
    None where it is to be left out."""

    option: str
    value: str | float | None
    command: str = "build"
    why: str = ""

    def words(self) -> str:
        """What to do, with the option as a command line has it."""
        verb = "build" if self.command == "build" else f"{self.command} again"
        if self.value is None:
            said = f"without --{self.option}"
        elif isinstance(self.value, str):
            said = f"with --{self.option} {self.value}"
        else:
            said = f"with --{self.option} {self.value:.10g}"
        return f"{verb} {said}" + (f" ({self.why})" if self.why else "")


class IntaglioError(Exception):
    """Base of every error that is the input's fault and not intaglio's."""


class ModelError(IntaglioError):
    """A torch model that cannot be captured or quantised."""


class DataError(IntaglioError):
    """An image, a COCO file or a calibration set that cannot be used."""


class ProgramError(IntaglioError):
    """A `Program` that is not well formed, or a `.intaglio` file that cannot be read."""


class BuildError(IntaglioError):
    """A `Program` or a target that the hardware generator cannot meet.

    remedies  changes of which each was found to help; the message ends in their words.
    """

    def __init__(self, text: str, remedies: tuple[Remedy, ...] = ()) -> None:
        self.text, self.remedies = text, remedies
        words = ", or ".join(remedy.words() for remedy in remedies)
        super().__init__(f"{text.rstrip('.')}; {words}." if words else text)


class FitError(BuildError):
    """A design of which a target holds less than it takes."""


class IntaglioWarning(UserWarning):
    """Base of what the command line says in one sentence and goes on."""


class PrecisionWarning(IntaglioWarning):
    """A layer whose multipliers have too few bits for some channels; no error, and never silent."""


class ToolError(IntaglioError):
    """An external program (a simulator, a synthesis tool) that is missing or failed."""


class CalibrationWarning(IntaglioWarning):
    """Calibration images that do not show what a step needs; it does without, and says so."""


class KeptWarning(IntaglioWarning):
    """A result that stays where it is, as what was made now is none."""


class DataWarning(IntaglioWarning):
    """What was done to data that can be used, where a user may think otherwise."""
