"""Parts of ``training.py``: problems, the process in which one solver runs, and the report."""
