"""The file tree in README.md, one phrase per file, taken from the modules' own first sentences.

Without arguments it rewrites the part between the markers; with --check it only compares, and
exits with 1 if a file was added, removed or renamed since.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MARKERS = "<!-- file tree: make tree -->", "<!-- end of file tree -->"
PHRASE_AT_MOST = 96


def phrase(path: Path) -> str:
    """The first sentence of a module, without the name it may begin with."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<!al)\.\s|\n\n|\.$", docstring)[0].replace("\n", " ")
    sentence = re.sub(r"^[\w ]{1,24}: ", "", sentence)
    for mark in ("; ", ": "):
        if len(sentence) > PHRASE_AT_MOST:
            sentence = sentence.partition(mark)[0]
    return sentence


def tree(folder: Path, depth: int = 0) -> list[str]:
    """One line per folder and module; a folder's phrase is that of its `__init__`."""
    indent = "  " * depth
    own = folder / "__init__.py"
    name = f"{indent}{folder.name}/"
    lines = [f"{name:<30}{phrase(own) if own.exists() else ''}".rstrip()]
    entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        if entry.is_dir() and entry.name != "__pycache__" and any(entry.rglob("*.py")):
            lines += tree(entry, depth + 1)
        elif entry.is_dir() and entry.name != "__pycache__":
            lines.append(f"{indent}  {entry.name + '/':<{28 - 2 * depth}}data files")
        elif entry.suffix == ".py" and entry != own:
            lines.append(f"{indent}  {entry.name:<{28 - 2 * depth}}{phrase(entry)}")
    return lines


def main(arguments: list[str]) -> int:
    """Rewrite or compare; 1 if README.md is out of date."""
    text = README.read_text(encoding="utf-8")
    start, end = (text.index(marker) for marker in MARKERS)
    listing = "\n".join(tree(ROOT / "src" / "samling"))
    new = f"{text[:start]}{MARKERS[0]}\n```\n{listing}\n```\n{text[end:]}"
    if "--check" in arguments:
        if new != text:
            print("README.md: the file tree is out of date. Remedy: make tree.")
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
