"""Evaluation: metrics declared as data, statistics, tables and figures. `python -m eval`, `python -m eval.report`.

Scoring reads the run store and writes records beside each run; the report reads records only. Imports go one way, from
right to left:

    records < metrics < protocols < options < output < published, figures, gallery < report < answer
                                    options < track < scoring < catalogue

`records` is what lies beside a run; `metrics` what is measured; `protocols` and `options` check what a user asks for;
`scoring` goes from images to records; `output` writes files of a report; the rest make them.
"""
