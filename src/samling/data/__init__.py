"""Cases, how they are read, prepared, split, stored and augmented."""
