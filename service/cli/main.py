"""The entry point of `leadlog`, which loads all other modules under `exit_on_interrupt`."""

import sys

from service.cli.interrupts import EXIT_CODE, exit_on_interrupt


def main() -> None:
    """Runs `service.cli.program`; Ctrl-C ends with exit code 130."""
    with exit_on_interrupt():
        from service.cli.program import run  # noqa: PLC0415  # an interrupt may come here
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
