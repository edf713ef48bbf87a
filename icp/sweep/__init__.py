"""Measuring effects. Start at `measure.py`; the engines are `exact.py` and `linear.py`."""
