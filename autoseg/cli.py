"""The program `autoseg`: its commands in the order of the help, its errors as one line, its exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer


def build() -> Typer:
    """Return the program with all its commands.

    Everything is imported here: processes that work on cases import the module that started the program, and need
    none of it.
    """
    import typer

    from autoseg.commands import data, deploying, planning, predicting, showing, training

    app = typer.Typer(
        help="Self-configuring segmentation of medical images: point it at a data set, and it does the rest and says"
        " why.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for group in (data, planning, training, predicting, deploying, showing):
        app.add_typer(group.app)
    return app


def main() -> None:
    """Run the command line and exit with its code: 0 done, 2 usage, 3 data, 4 some failed, 5 resources, 130 stopped."""
    from autoseg import console
    from autoseg.records.errors import INTERRUPTED, UserError

    typed = sys.argv[1:]
    debug = "--debug" in typed
    console.start_logging(debug=debug)
    try:
        build()(args=[word for word in typed if word != "--debug"], standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        console.failure(error, json_output="--json" in typed)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into an exit without a word.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        console.stopped()
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
