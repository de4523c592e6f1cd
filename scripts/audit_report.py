"""Read pip-audit's reports: print what was found, and end with 0 (clean), 1 (vulnerable) or 3 (not audited)."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(reports: list[Path]) -> int:
    """Print one line a finding, and what the whole comes to."""
    packages = [package for report in reports for package in json.loads(report.read_bytes())["dependencies"]]
    skipped = [package for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in skipped:
        print(f"audit: not asked about: {package['name']}: {package['skip_reason']}", file=sys.stderr)
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            aliases = ", ".join(found["aliases"])
            print(f"{package['name']} {package['version']}: {found['id']} ({aliases}); fixed in {fixed}")
    asked = len(packages) - len(skipped)
    print(f"audit: {asked} packages asked about, {len(vulnerable)} vulnerable, {len(skipped)} not asked about")
    if vulnerable:
        return 1
    if skipped or not packages:
        print("audit: NOT AUDITED as a whole", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
