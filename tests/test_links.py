"""Links between the pages of README.md and docs/ lead somewhere, and every page can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = {"_build", "api", "auto_examples"}  # by sphinx
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + sorted(
    path for path in (ROOT / "docs").rglob("*.md") if not WRITTEN & set(path.relative_to(ROOT / "docs").parts)
)


def targets(page):
    """Relative targets of a page's links and pictures, code left out."""
    text = re.sub(r"```(?!{).*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[0] for target in found if not re.match(r"https?:|mailto:|#", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in filter(None, targets(page)):
        path = (page.parent / target).resolve()
        if path.parent.name == "auto_examples":  # made of an example
            path = ROOT / "examples" / path.with_suffix(".py").name
        assert path.exists() or path.with_suffix(".md").exists(), f"{page.name}: {target}"


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```{toctree}\n(.*?)```", text, flags=re.DOTALL):
            entries = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
            for entry in entries:
                names = page.parent.glob("*.md") if entry == "*" else [page.parent / f"{entry}.md"]
                listed |= {name.resolve() for name in names}
    docs = {page.resolve() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert not docs - listed - {(ROOT / "docs" / "index.md").resolve()}


def test_the_readme_fits_what_it_promises():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = text.index("```python")
    assert text.index("docs/_static/overview.png") < first < text.index("make demo") < text.index("## What is proved")
    assert text[first:].index("```\n") < 1000  # about ten lines of code
    assert (ROOT / "docs" / "_static" / "overview.png").stat().st_size < 100_000
