"""Read the reports of pip-audit and npm, print findings, end with 0 (clean), 1 (vulnerable) or 3 (not audited)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Audited(NamedTuple):
    """What one report says: how many packages were asked about, a line per finding, the vulnerable, and the skipped."""

    asked: int
    findings: list[str]
    vulnerable: set[str]
    skipped: list[str]


def of_pip(report: dict[str, Any]) -> Audited:
    """Read what pip-audit writes."""
    skipped = [f"{each['name']}: {each['skip_reason']}" for each in report["dependencies"] if "skip_reason" in each]
    vulnerable = {
        f"{each['name']} {each['version']}": each["vulns"] for each in report["dependencies"] if each.get("vulns")
    }
    findings = [
        f"{package}: {found['id']} ({', '.join(found['aliases'])}); "
        f"fixed in {', '.join(found['fix_versions']) or 'no version yet'}"
        for package, all_found in vulnerable.items()
        for found in all_found
    ]
    return Audited(len(report["dependencies"]) - len(skipped), findings, set(vulnerable), skipped)


def of_npm(report: dict[str, Any]) -> Audited:
    """Read what `npm audit` writes. It names those that only depend on a vulnerable package, too: they are left out."""
    found = [
        (name, f"{name} {advisory['range']}: {advisory['title']} ({advisory['severity']}), {advisory['url']}")
        for name, package in report["vulnerabilities"].items()
        for advisory in package["via"]
        if isinstance(advisory, dict)
    ]
    total = report["metadata"]["dependencies"]["total"]
    return Audited(total, [line for _, line in found], {name for name, _ in found}, [])


def main(reports: list[Path]) -> int:
    """Print one line a finding, and what the whole comes to."""
    read = [json.loads(report.read_bytes()) for report in reports]
    audited = [of_npm(report) if "auditReportVersion" in report else of_pip(report) for report in read]
    asked, vulnerable = sum(each.asked for each in audited), set().union(*(each.vulnerable for each in audited))
    skipped = [package for each in audited for package in each.skipped]
    for package in skipped:
        print(f"audit: not asked about: {package}", file=sys.stderr)
    for finding in dict.fromkeys(finding for each in audited for finding in each.findings):
        print(finding)
    print(f"audit: {asked} packages asked about, {len(vulnerable)} vulnerable, {len(skipped)} not asked about")
    if vulnerable:
        return 1
    if skipped or not asked:
        print("audit: NOT AUDITED as a whole", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
