"""What a platform should have against what it has: comparisons, and trials with messages and credentials."""
