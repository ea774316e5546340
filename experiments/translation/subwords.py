"""The special ids of subwords."""

PAD, BOS, EOS, UNKNOWN = range(4)
