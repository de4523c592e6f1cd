"""Review a change: differences of tenants, guardrails, report. Pure, except `base`, which reads git."""
