"""`leadlog`: wires the commands of `service/commands/`, and says errors in one sentence."""

import sys

import typer

from service.commands import access, database, demo, doctor, listen, plans, run, webhooks
from service.processes import StartError
from service.settings import SettingsError
from sql.errors import DatabaseError

app = typer.Typer(
    name="leadlog",
    help=(
        "Leadlog takes in leads, scores them and tells the world.\n\n"
        "To try it: leadlog dev. In production: leadlog migrate, then leadlog serve and "
        "leadlog work, each as many as you like. Settings are environment variables; "
        "leadlog doctor checks them."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.command("dev", rich_help_panel="Try it")(run.dev)
app.command("demo", rich_help_panel="Try it")(demo.demo)
app.command("listen", rich_help_panel="Try it")(listen.listen)
app.command("serve", rich_help_panel="Run it")(run.serve)
app.command("work", rich_help_panel="Run it")(run.work)
app.command("migrate", rich_help_panel="Run it")(database.migrate)
app.command("doctor", rich_help_panel="Run it")(doctor.doctor)
app.add_typer(access.keys, name="keys", rich_help_panel="Who may use it")
app.add_typer(access.tenants, name="tenants", rich_help_panel="Who may use it")
app.add_typer(plans.plans, name="plans", rich_help_panel="Who may use it")
app.add_typer(webhooks.webhooks, name="webhooks", rich_help_panel="Run it")


def main() -> None:
    """The entry point: errors that the user can mend are one sentence and exit code 1."""
    try:
        app()
    except (SettingsError, StartError, DatabaseError, OSError) as error:  # a full disk, say
        typer.echo(f"leadlog: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
