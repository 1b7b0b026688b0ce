"""A hook of mkdocs: formulas in LaTeX become MathML, which browsers show without a script."""

import re
from html import unescape

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

# as pymdownx.arithmatex marks them
FORMULA = re.compile(r'(<\w+ class="arithmatex">)\\([\[(])(.*?)\\[\])](?=</)', re.DOTALL)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return FORMULA.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    start, bracket, latex = found.groups()
    return start + convert(unescape(latex).strip(), display="block" if bracket == "[" else "inline")
