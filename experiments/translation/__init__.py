"""Neural machine translation with the Transformer (Section 5.4, Appendix C.4)."""
