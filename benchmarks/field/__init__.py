"""The field's own benchmarks: their files read as published, any workflow run over them, and what their scorers expect
written. Each benchmark is one file; `edit.py` is what they share."""
