"""Errors that a user can cause, each a single sentence.

The command line prints the message and exits with 2; no traceback is shown. The words follow one
form: "X must be ..., not Y", naming the layer or file, and then the remedy.
"""


class IntaglioError(Exception):
    """Base of every error that is the input's fault and not intaglio's."""


class ModelError(IntaglioError):
    """A torch model that cannot be captured or quantised."""


class DataError(IntaglioError):
    """An image, a COCO file or a calibration set that cannot be used."""


class ProgramError(IntaglioError):
    """A `Program` that is not well formed, or a `.intaglio` file that cannot be read."""


class BuildError(IntaglioError):
    """A `Program` or a target that the hardware generator cannot meet."""


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
