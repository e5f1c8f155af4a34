"""Size alarm: print files above 400 lines and functions above 50; exit with 1 if there are any."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def offenders(path: Path) -> Iterator[str]:
    """One line of text for the file and for each function in it that is too long.

    A function counts from `def` to its last line, docstring included.
    """
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{path}:1: file has {lines} lines, at most {MAX_FILE_LINES}: divide it by subject"
    for node in ast.walk(ast.parse(text, filename=str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield (
                    f"{path}:{node.lineno}: {node.name}() has {length} lines, "
                    f"at most {MAX_FUNCTION_LINES}: name its parts"
                )


def main(folders: list[str]) -> int:
    """Check every Python file below the folders; 0 if all are small enough."""
    files = sorted(file for folder in folders for file in Path(folder).rglob("*.py"))
    found = [line for file in files for line in offenders(file)]
    print("\n".join([*found, f"size alarm: {len(files)} files checked, {len(found)} too long"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["src", "tests"]))
