"""The demonstration: all agents as processes, one purchase, and books that balance."""
