"""What a Lookahead implementation should do, as checks that any implementation can be put through.

Each check isolates one property: it compares with a number worked out by hand, with `lookahead/reference.py`, or
with the same implementation under the condition that must make no difference. Whatever is not the property
(the phase of the synchronizations, say) is left open, so that one fault does not fail every check.
"""

from benchmarks.capabilities import adaptive, checkpoints, evaluation, interface, optimizer, scale, semantics
from benchmarks.capabilities.check import checks_of

ALL = checks_of((semantics, adaptive, optimizer, checkpoints, interface, evaluation, scale))
