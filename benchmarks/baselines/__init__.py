"""What gansweep is measured against: the same sweeps as people write them without it."""
