"""A progress bar for a bench."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Tell = Callable[[str, int, int], None]
"""Called with the description of the current run, the number of finished runs and the total."""


@contextmanager
def show_progress(console: Console) -> Iterator[Tell]:
    """The bar disappears at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=None)

        def tell(text: str, done: int, total: int) -> None:
            progress.update(bar, description=text, completed=done, total=total or None)

        yield tell
