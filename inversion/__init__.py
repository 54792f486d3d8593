"""Training-free editing by inversion (paper section 3.1): solvers, the plan of what is kept, kept attention values."""
