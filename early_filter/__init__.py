"""Early Filter: try many seeds for a few steps, let a judge choose, finish the best (paper section 3.3). No host needed."""
