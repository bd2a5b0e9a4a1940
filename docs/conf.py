"""Sphinx configuration. Nothing is fetched while the pages are built, nor when they are read."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parents[1]

project = "convexnn"
author = "The convexnn developers"
copyright = f"2026, {author}"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "auto_examples/**/*.py.md5"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]  # the gallery's configuration holds functions

# Reference
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says types and shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them

# Markdown
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

# Formulas: MathJax from the wheel of sphinx-mathjax-offline, without the 20 MB that pages do not load
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}


def copy_mathjax(app, error):
    if error is None and app.builder.format == "html":
        source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
        target = Path(app.outdir) / "_static" / "mathjax"
        for folder in ("output/chtml/fonts/woff-v2", "input/tex/extensions"):
            shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)
        shutil.copy(source / "tex-chtml.js", target)


def setup(app):
    app.connect("build-finished", copy_mathjax)


# Gallery: plot_*.py are run and shown, everything else in examples/ is left alone
class ReadingOrder:
    """The tutorials as examples/README.rst lists them, then the other examples by name."""

    def __init__(self, _):
        text = (ROOT / "examples" / "README.rst").read_text(encoding="utf-8")
        self.listed = [f"plot_{name}.py" for name in re.findall(r"sphx_glr_auto_examples_plot_(\w+)\.py", text)]

    def __call__(self, name):
        return (self.listed.index(name) if name in self.listed else len(self.listed), name)


sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(/|^)(?!plot_)[^/]*\.py$",
    "download_all_examples": False,
    "show_memory": False,
    "within_subsection_order": ReadingOrder,
    "write_computation_times": False,
    "min_reported_time": 5,
    "remove_config_comments": True,
}

# Pages
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["convexnn.css"]
html_title = f"convexnn {version}"
html_show_sourcelink = False
html_sidebars = {
    name: [] for name in ("index", "install", "quickstart", "scaling", "glossary", "equations", "architecture")
}
html_sidebars |= {name: [] for name in ("contributing", "changelog", "results/*")}  # pages that have none below them
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
