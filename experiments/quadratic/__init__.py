"""The convergence analysis of Section 3 and Appendices A and B in closed form: no training loop, no data, float64."""
