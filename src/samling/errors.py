"""The one error a user is meant to read: what is wrong, where, and what to do about it."""

from pathlib import Path


class InputError(Exception):
    """Unusable input or wrong use. The command line prints it in one line and exits with 2.

    Args:
        where: the file, folder, field or option at fault.
        problem: what is wrong with it, in words a user understands.
        remedy: what to do about it.

    >>> str(InputError("a.png", "is truncated", "export it again"))
    'a.png: is truncated. Remedy: export it again.'
    """

    def __init__(self, where: str | Path, problem: str, remedy: str) -> None:
        self.where = str(where)
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        super().__init__(f"{self.where}: {self.problem}. Remedy: {self.remedy}.")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        """Errors travel from worker processes by pickle, which calls the class anew."""
        return type(self), (self.where, self.problem, self.remedy)
