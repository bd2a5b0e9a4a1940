"""Parts of ``examples/reproduce_global_safety.py``: what is run, what is kept of a run, and the page."""
