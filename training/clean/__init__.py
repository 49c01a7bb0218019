"""Cleaning of image collections: filters that judge images, what they would drop, and what to do about it.

A filter (`verdicts.py`) measures every image by itself, in worker processes, and then decides, with a score and a
reason. `pipeline.py` runs filters over a collection; `report.py` shows their verdicts; `apply.py` acts on them.
"""
