"""The site: `make docs`, or `sphinx-build -W --keep-going docs build/docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # fromcode

import intaglio

project = "intaglio"
copyright = "the intaglio authors, Apache-2.0"
version = release = intaglio.__version__
language = "en"
smartquotes = False  # they would make a dash of the two of an option

extensions = ["myst_nb", "sphinx.ext.autodoc", "fromcode"]
exclude_patterns = ["fromcode", "_static"]
suppress_warnings: list[str] = []  # every warning is an error

myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 4

nb_execution_mode = "force"  # the tour, by the code as it is
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "py:obj"  # `x` in a docstring: code, and a link where x is documented
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"intaglio {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
