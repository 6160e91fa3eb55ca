"""Make the docstrings of this project into Markdown, for the reference pages of the site.

Named in mkdocs.yml as an extension of griffe, which reads the code for mkdocstrings. Docstrings are written to be read
in a terminal; on a page an example becomes a block of code, and the name of something a piece of code.
"""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=`)")
EXAMPLE = re.compile(r"^(?P<indent>[ ]*)>>> .*(?:\n[ ]*\S.*)*", re.MULTILINE)


def markdown(docstring: str) -> str:
    r"""Return a docstring with its examples fenced and without the roles of other markup.

    >>> markdown("See :class:`Call`.\n\n>>> 1 + 1\n2\n")
    'See `Call`.\n\n```pycon\n>>> 1 + 1\n2\n```\n'
    """

    def fenced(match: re.Match[str]) -> str:
        indent = match["indent"]
        return f"{indent}```pycon\n{match[0]}\n{indent}```"

    return EXAMPLE.sub(fenced, ROLE.sub("", docstring))


class Docstrings(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
