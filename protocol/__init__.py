"""What is said and what may happen: pure, without I/O, clock or randomness."""
