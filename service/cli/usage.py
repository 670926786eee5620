"""Errors in a command line as one sentence: what was wrong, which values are allowed, an example.

The texts of typer's parser repeat neither the value nor both bounds.
"""

from typing import Any

import typer

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base class of the parser's errors, which typer does not export."""


def explain_usage_error(error: Any) -> str | None:
    """The sentence; None if the help was printed instead, because there were no arguments."""
    sentence = (_explain_value(error) or _explain_text(error)).strip()
    if not sentence:
        return None
    return f"{sentence}{'' if sentence[-1] in '.?' else '.'} {_show_way_out(error.ctx)}"


def _explain_value(error: Any) -> str | None:
    """A sentence about a value that an option does not accept, with those that it accepts."""
    param, cause = getattr(error, "param", None), error.__cause__
    described = getattr(param, "type_descriptor", None)
    if described is None or cause is None or not hasattr(cause, "errors"):
        return None
    wanted = _describe_values(described)
    return wanted and f"{_get_name(param)} {cause.errors()[0]['input']!r} cannot be used: {wanted}"


def _describe_values(described: Any) -> str | None:
    if described.choices:
        return f"choose one of {', '.join(map(str, described.choices))}"
    least, most = described.parameter_info.min, described.parameter_info.max
    kind = "a number" if described.annotation is float else "a whole number"
    if least is None and most is None:
        return f"it must be {kind}" if described.annotation in {int, float} else None
    if most is None:
        return f"it must be {kind}, {least} or more"
    return f"it must be {kind} from {least} to {most}"


def _explain_text(error: Any) -> str:
    """The parser's own text, without the words that mean nothing to a user."""
    param = getattr(error, "param", None)
    if param is not None and not error.message:
        help_text = str(getattr(param, "help", None) or "").rstrip(".")
        return f"The {param.param_type_name} {_get_name(param)} is missing: {help_text}"
    text = str(error.format_message()).replace("Value error, ", "").removeprefix("Invalid value: ")
    return text[:1].upper() + text[1:]


def _get_name(param: Any) -> str:
    """The option as it is typed, or an argument as the help shows it."""
    return str(param.opts[0] if param.param_type_name == "option" else param.name.upper())


def _show_way_out(ctx: Any) -> str:
    """The example of the command, and how to get its help."""
    if ctx is None or not ctx.command.epilog:
        return f"See {'leadlog' if ctx is None else ctx.command_path} --help."
    return f"{ctx.command.epilog} (see also {ctx.command_path} --help)."
