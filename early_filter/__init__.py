"""Early Filter (paper section 3.3): probe many seeds, let a judge choose, finish the best. No host needed."""
