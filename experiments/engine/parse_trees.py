"""OmegaConf parses `${...}` anew each time a value is read; with this module imported it keeps the tree of each text.

Parsing was half of a composition and most of a resolution. A tree is only read, by a visitor, and the same text has
the same tree, so what comes out is the same. An OmegaConf that parses elsewhere is left as it is.
"""

from __future__ import annotations

import functools

import omegaconf._utils
import omegaconf.base
import omegaconf.grammar_parser

kept = functools.lru_cache(maxsize=4096)(omegaconf.grammar_parser.parse)

for _module in (omegaconf.base, omegaconf._utils):
    if getattr(_module, "parse", None) is omegaconf.grammar_parser.parse:
        _module.parse = kept
