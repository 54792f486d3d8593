"""Early Filter (paper section 3.3): try many seeds for a few steps, let a judge choose, finish the best. Needs no host."""
