"""Turn the cross-references of our docstrings into links of the built pages.

The docstrings have Sphinx's roles, which editors understand: ``:func:`nerf_metal.ops.mlp``` and
``:class:`~nerf_metal.data.Scene```. mkdocstrings reads Markdown. This extension of griffe, the library that reads the
source for it, replaces each role by a link, or by the bare name where the pages do not have that object.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`(~?)([\w.]+)`")


def linked(text: str) -> str:
    """Return the docstring with a link in place of each role."""

    def link(match: re.Match[str]) -> str:
        short, target = match.groups()
        shown = target.rpartition(".")[2] if short else target
        return f'<autoref optional identifier="{target}">`{shown}`</autoref>'

    return ROLE.sub(link, text)


class Roles(griffe.Extension):
    """An extension of griffe that rewrites each docstring as soon as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value)
