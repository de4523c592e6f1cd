"""Review a change: differences of tenants, guardrails, report. Pure; only `base` reads git."""
