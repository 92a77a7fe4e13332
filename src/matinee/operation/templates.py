"""The generated files: one template each, filled in here and nowhere else."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - these are configuration files, not pages
)


def render(template: str, **values: Any) -> str:
    """Fill in a template of `operation/templates/`; a value that is missing is an error."""
    return _environment.get_template(template).render(values)
