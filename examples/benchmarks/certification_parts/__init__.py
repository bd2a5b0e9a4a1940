"""Parts of ``certification.py``: networks and questions, measurements, peers, the report."""
