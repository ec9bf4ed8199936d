"""Words that are no command, option or value, as a sentence: "X must be ..., not Y"."""

import re
from difflib import get_close_matches
from typing import Any

GIVEN = "intaglio.given"  # where a command keeps its words, in its context's `meta`
KINDS = {"integer": "a whole number", "number": "a number"}  # as the parser calls them


def sentence(error: Any) -> str:
    """What the parser refuses."""
    text: str = error.format_message()
    ctx = error.ctx
    where = ctx.command_path if ctx else "intaglio"
    param: Any = getattr(error, "param", None)
    option: Any = getattr(error, "option_name", None)
    if hasattr(error, "param_type"):
        about = f": {param.help.rstrip('.')}" if param.help else ""
        return f"{name_of(param)} must be given{about}; `{where} -h` lists all."
    if param is not None:
        return f"{name_of(param)} must be {kind(error)}, not {value_of(error)!r}."
    if hasattr(error, "possibilities"):
        hint = near(option, options_of(ctx)) or f"`{where} -h` lists them."
        return f"`{where}` must be given options that it has, not {option}; {hint}"
    if option is not None and "does not take" in text:
        return f"{option} must stand alone, without a value."
    if option is not None:
        return f"{option} must be followed by its value, not by nothing."
    if found := re.match(r"No such command '(.*?)'\.", text, re.DOTALL):
        known = ctx.command.list_commands(ctx)
        hint = near(found[1], known)
        words = f"The command must be one of {', '.join(known)}, not {found[1]!r}"
        return f"{words}; {hint}" if hint else f"{words}."
    if found := re.search(r"extra argument.* \((.*)\)", text, re.DOTALL):
        words = " ".join(p.metavar or "" for p in ctx.command.params if is_word(p)) or "options"
        return f"`{where}` must be given {words} alone, not {found[1]!r} too; see `{where} -h`."
    return f"`{where}` must be used as `{where} -h` says, not: {text.rstrip('.')}."


def name_of(param: Any) -> str:
    """What help calls it."""
    return str(param.opts[-1] if param.param_type_name == "option" else param.metavar)


def near(given: str, known: list[str]) -> str:
    """A hint at the name that is most like what was given, or nothing."""
    found = get_close_matches(given, known, 1)
    return f"did you mean {found[0]}?" if found else ""


def is_word(param: Any) -> bool:
    """Whether it stands without a dash, and help shows it."""
    return param.param_type_name == "argument" and not param.hidden


def options_of(ctx: Any) -> list[str]:
    """The options that help shows."""
    params = ctx.command.get_params(ctx)
    shown = [p for p in params if p.param_type_name == "option" and not p.hidden]
    return [name for p in shown for name in (*p.opts, *p.secondary_opts)]


def kind(error: Any) -> str:
    """What a value must be."""
    text: str = error.message
    if "is not one of" in text:
        words = text.partition("is not one of ")[2].rstrip(".")
        return f"one of {words.replace(chr(39), '')}"
    return next((words for name, words in KINDS.items() if f"valid {name}" in text), text)


def value_of(error: Any) -> Any:
    """What was given for the option or argument of the error."""
    return given(error.ctx).get(error.param.name, [None])[-1]


def given(ctx: Any) -> dict[str, list[Any]]:
    """The words that were given for each option and argument, as they were."""
    values, _, _ = ctx.command.make_parser(ctx).parse_args(list(ctx.meta.get(GIVEN, ())))
    return {k: list(v) if isinstance(v, list | tuple) else [v] for k, v in values.items()}
