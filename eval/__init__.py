"""Evaluation: metrics declared as data, statistics, tables and figures. `python -m eval`, `python -m eval.report`.

Scoring reads the run store and writes records beside each run; the report reads records only.
"""
