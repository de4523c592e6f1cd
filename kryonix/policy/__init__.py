"""The guardrails as a Pulumi policy pack: the rules of `kryonix.review` for a program's resources."""
