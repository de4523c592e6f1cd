"""Run the program of a stack: with the Pulumi CLI, or with the embedded local engine."""
