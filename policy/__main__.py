"""The policy pack: `pulumi preview --policy-pack policy`, in the project's folder."""

from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyPack

from kryonix.policy.pack import policies

PolicyPack("kryonix-guardrails", policies(Path(__file__).absolute().parents[1]), EnforcementLevel.MANDATORY)
