"""samling: adapt a foundation segmenter to an organ and a modality, measure it, put it to work."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samling.recipes.load import load as load

    __version__: str

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and look up the version when first asked: `import samling` stays instant."""
    if name == "load":
        from samling.recipes.load import load

        globals()["load"] = load
        return load
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("samling")
        except PackageNotFoundError:
            return "0+source"
    raise AttributeError(f"module 'samling' has no attribute {name!r}")
