"""Prints the directives of a configuration as crossplane reads them: name, arguments, line, block."""

import json
import re
import sys

import crossplane

ESCAPES = {"t": "\t", "r": "\r", "n": "\n"}


def unescaped(word):
    """crossplane leaves most escapes as they are; Nginx does not (ngx_conf_read_token)."""
    return re.sub(r"\\([\\'\"trn])", lambda it: ESCAPES.get(it[1], it[1]), word)


def tree(block):
    return [
        [
            it["directive"],
            # Lua is not unescaped.
            it["args"] if "_by_lua_block" in it["directive"] else [unescaped(arg) for arg in it["args"]],
            it["line"],
            tree(it["block"]) if "block" in it else None,
        ]
        for it in block
    ]


read = crossplane.parse(sys.argv[1], single=True, check_ctx=False, check_args=False)
if read["errors"]:
    sys.exit(str(read["errors"]))
json.dump(tree(read["config"][0]["parsed"]), sys.stdout)
