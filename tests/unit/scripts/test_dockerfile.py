"""The product's image has what production needs, checked by hash, and nothing of the machine that builds it."""

from __future__ import annotations

import json
import re

from tests.support.project import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
    for line in re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    if line.strip()
]


def values(name: str) -> list[str]:
    """Return the arguments of every such instruction."""
    return [value for instruction, value in INSTRUCTIONS if instruction == name]


def stage(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage."""
    starts = [n for n, (instruction, _) in enumerate(INSTRUCTIONS) if instruction == "FROM"] + [len(INSTRUCTIONS)]
    (start,) = [n for n in starts[:-1] if INSTRUCTIONS[n][1].endswith(f" AS {name}")]
    return INSTRUCTIONS[start + 1 : starts[starts.index(start) + 1]]


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the version and the hashes of every package of a lock file."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)[^\n]*\n((?:    --hash=.*\n)+)", (ROOT / file).read_text(), re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"sha256:\w+", hashes))) for name, version, hashes in found}


def test_production_installs_the_pinned_packages_without_the_tests_tools() -> None:
    production, everything = pins("requirements-production.txt"), pins("requirements.txt")
    assert production.items() <= everything.items()
    assert {"fastapi", "pulumi", "procrastinate"} <= production.keys()
    tools = {"pytest", "mypy", "ruff", "playwright", "hypothesis", "setuptools", "pip", "zizmor"}
    assert not tools & production.keys()
    lines = [line for line in (ROOT / "requirements-production.txt").read_text().splitlines() if line[:1] not in "# "]
    assert len(lines) == len(production), "each has a hash"


def test_every_base_image_is_named_by_version() -> None:
    given = dict(value.split("=", 1) for value in values("ARG") if "_IMAGE=" in value)
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*", image) for image in given.values()), given
    stages = set[str]()
    for value in values("FROM"):
        image, _, name = value.partition(" AS ")
        assert image in stages or re.sub(r"\W", "", image) in given, value
        stages.add(name)


def test_packages_are_installed_by_hash_and_no_cache_is_left() -> None:
    (install,) = [value for value in values("RUN") if "pip" in value and " install " in value]
    for option in ("--require-hashes", "--no-deps", "--only-binary :all:", "--no-cache-dir"):
        assert option in install
    assert not re.search(r"apt-get|apk |curl |wget ", DOCKERFILE)
    assert not values("ADD")


def test_the_service_runs_as_a_numbered_user_with_a_health_check() -> None:
    final = stage("service")
    users = [value for instruction, value in final if instruction == "USER"]
    assert users == ["10001:10001"]
    names = [instruction for instruction, _ in final]
    assert "RUN" not in names[names.index("USER") :], "what follows is not root's"
    assert dict(final)["ENTRYPOINT"] == '["kryonix"]'
    (check,) = values("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert "/readyz" in command[-1]
    compile(command[-1], "healthcheck", "exec")
    labels = " ".join(value for instruction, value in final if instruction == "LABEL")
    for label in ("title", "description", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


def test_no_secret_and_no_address_of_a_machine_can_get_into_the_image() -> None:
    named = " ".join([*values("ARG"), *values("ENV")])
    assert not re.search(r"(?i)passw|token|secret|credential|index|proxy|://", named)


def test_docker_is_sent_the_copied_files_only() -> None:
    ignored, *entries = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert ignored == "*"
    copied = {
        word.removesuffix("/*").replace("[s]", "s")
        for value in values("COPY")
        if not value.startswith("--from=")
        for word in value.split()[:-1]
    }
    assert len(entries) == len(set(entries))
    assert {entry[1:] for entry in entries if entry.startswith("!")} == {*copied, "Dockerfile"}
    assert "**/__pycache__" in entries
