"""The result of one check of a platform or of a tenant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree

Outcome = Literal["pass", "fail", "not tried", "unreachable"]

PLATFORM_CHECKS: Final = (
    "broker",
    "alarms",
    "registry",
    "migrations",
    "metrics",
    "monitoring",
    "certificates",
    "backups",
    "strange vhosts",
)
TENANT_CHECKS: Final = (
    "vhost",
    "limits",
    "protection",
    "users",
    "permissions",
    "user limits",
    "exchanges",
    "queues",
    "bindings",
    "policies",
    "effective policies",
    "parameters",
    "registry",
    "metrics",
    "messages",
    "dead letters",
    "retry",
    "isolation",
)
"""Every check, in the order of the report."""
MESSAGE_CHECKS: Final = ("messages", "dead letters", "retry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found, why, and the command that mends it. No tenant: the platform."""

    check: str
    outcome: Outcome
    tenant: str = ""
    why: str = ""
    remedy: str = ""


def complete(
    found: Iterable[Finding], checks: Iterable[str] = TENANT_CHECKS, tenant: str = "", blocked: str = ""
) -> list[Finding]:
    """Return the findings in the checks' order, and one for each check without any: passed, or `blocked` by a cause."""
    findings = list(found)
    result: list[Finding] = []
    for check in checks:
        rest = Finding(check=check, tenant=tenant, outcome="not tried" if blocked else "pass", why=blocked)
        result += [each for each in findings if each.check == check] or [rest]
    return result


def junit(findings: Iterable[Finding]) -> bytes:
    """Return the findings as JUnit XML: a suite for the platform and for each tenant, a case for each finding."""
    suites: dict[str, list[Finding]] = {}
    for finding in findings:
        suites.setdefault(finding.tenant or "platform", []).append(finding)
    root = ElementTree.Element("testsuites", name="kryonix check")
    elements = {"fail": "failure", "unreachable": "error", "not tried": "skipped"}
    for name, cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(cases)))
        for plural, outcome in (("failures", "fail"), ("errors", "unreachable"), ("skipped", "not tried")):
            suite.set(plural, str(sum(case.outcome == outcome for case in cases)))
        for case in cases:
            entry = ElementTree.SubElement(suite, "testcase", classname=name, name=case.check)
            if case.outcome != "pass":
                ElementTree.SubElement(entry, elements[case.outcome], message=_xml(case.why)).text = _xml(case.remedy)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _xml(text: str) -> str:
    """Return a text without the control characters that XML forbids: anyone can put some into a queue's name."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
