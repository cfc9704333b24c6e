"""Measures the appliance beside matrix-synapse and the bare limit of the stack: `python -m benchmarks --help`."""
