"""Suites of circuits to find and to certify: definitions as files, runs over processes, rows, tables, figures.

`suite` is the record, `runs` unfolds it, `answer` does one run, `workers` does many, `row` keeps what came of them; `summary`,
`tables`, `figures` and `page` say it, `compare` holds two results against each other. Nothing here decides anything: what is
"certified" comes from `verify.certify` and `verify.discover` alone.
"""
