"""Runs the queries of docs/export.md in the current directory, and prints a JSON object of their rows.

The page is the argument. A query's name is in its first line; of the Python block, what it prints counts.
"""

import contextlib
import io
import json
import re
import sys

import duckdb

page = open(sys.argv[1], encoding="utf-8").read()
found = {}
for block in re.findall(r"```sql\n(.*?)```", page, re.S):
    name = re.match(r"-- name: (\w+)\n", block).group(1)
    rows = duckdb.sql(block)
    found[name] = [dict(zip(rows.columns, row)) for row in rows.fetchall()]
for number, block in enumerate(re.findall(r"```python\n(.*?)```", page, re.S)):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(block, {})
    found[f"python{number}"] = said.getvalue().splitlines()
print(json.dumps(found, default=str))
