"""The guardrails as a Pulumi policy pack: the rules of `kryonix.review`, asked of what a program registers."""
