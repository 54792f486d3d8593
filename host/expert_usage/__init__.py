"""Which expert works where: watching the routed layers while the host samples, and files that need no routing."""
