"""What a change does to tenants, and which of it has to be meant: differences, guardrails, report. Pure: no I/O."""
