"""Relaxations of ReLU networks around one sample, one program per file, each with a rigorous check."""
