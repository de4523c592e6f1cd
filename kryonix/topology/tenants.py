"""Tenants, and reading them from tenants.yaml."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from kryonix.topology.catalog import Catalog
from kryonix.topology.document import Document, Model, Path, as_tuple, parse, read, validate
from kryonix.topology.errors import MAX_PROBLEMS, InvalidInput, Problem, nearest, shown
from kryonix.topology.naming import ADMIN_USER, TENANT_ID, Names
from kryonix.topology.notify import Notify

ID_RULE: Final = "3 to 40 characters: a lower-case letter, then lower-case letters, digits and hyphens"
_RESERVED: Final = frozenset({ADMIN_USER.removeprefix("kryonix_")})


def _unique(modules: tuple[str, ...]) -> tuple[str, ...]:
    twice = [shown(module) for module, count in Counter(modules).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice[:20])}: in the list twice. Keep one")
    return modules


class Tenant(Model):
    """A customer with its modules, plan, status and cell, and where its alerts go."""

    id: str = Field(description=ID_RULE)
    modules: Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_unique), Field(min_length=1)] = (
        Field(description="The business modules the customer has bought")
    )
    plan: str = Field(description="The plan, which sets the limits")
    status: Literal["active", "suspended"] = Field(
        "active", description="A suspended tenant keeps everything and can't connect"
    )
    cell: str = Field(
        "main", pattern=r"^[a-z][a-z0-9-]*$", max_length=63, description="The broker that carries the tenant"
    )
    auth: Literal["password", "certificate"] = Field(
        "password", description="How applications log in: with a password, or with a client certificate over TLS"
    )
    notify: Notify | None = Field(None, description="Where the tenant's alerts go, besides the operators")

    @field_validator("id")
    @classmethod
    def _usable_in_names(cls, value: str) -> str:
        if not re.fullmatch(TENANT_ID, value):
            raise ValueError(f"{shown(value)} is not a valid tenant ID ({ID_RULE}){suggest_id(value)}")
        if value in _RESERVED:
            raise ValueError(f"{value!r} is reserved: {Names(value).user} is a user of the platform. Choose another ID")
        return value

    @property
    def names(self) -> Names:
        return Names(self.id)


def suggest_id(value: str) -> str:
    """Return a hint with the valid ID nearest to an invalid one; empty without any."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", value.lower()) if not unicodedata.combining(c))
    candidate = re.sub(r"[^a-z0-9-]+", "-", plain).strip("-")
    return f"; did you mean {candidate!r}?" if re.fullmatch(TENANT_ID, candidate) else ""


def parse_tenants(content: bytes, file: str, catalog: Catalog) -> list[Tenant]:
    """Return the tenants of a tenants.yaml, in its order. Raises InvalidInput with every problem of the file."""
    return read_tenants(content, file, catalog)[0]


def read_tenants(content: bytes, file: str, catalog: Catalog) -> tuple[list[Tenant], Document]:
    """Return the tenants of a tenants.yaml, and the document with their lines. Raises InvalidInput."""
    document, unread = read(content, file)
    entries, problems = _entries(document)
    problems = [_in_tenant(problem, entries) for problem in unread] + problems
    tenants: list[Tenant] = []
    lines: dict[str, int | None] = {}
    for index, entry in enumerate(entries):
        if len(problems) > MAX_PROBLEMS:
            break
        path: Path = ("tenants", index)
        tenant, found = _tenant(document, path, catalog)
        problems += found
        name = _id_of(entry)
        if name in lines:
            problems.append(_twice(document, index, name, lines[name]))
        elif name is not None:
            lines[name] = document.line(path)
        if tenant is not None:
            tenants.append(tenant)
    if problems:
        raise InvalidInput(problems)
    return tenants, document


def find_entry(content: bytes, file: str, tenant_id: str) -> dict[str, Any] | None:
    """Return a tenant's entry in a tenants.yaml, None without any. Raises InvalidInput."""
    document = parse(content, file)
    found = [index for index, entry in enumerate(_entries(document)[0]) if _id_of(entry) == tenant_id]
    if len(found) > 1:
        raise InvalidInput([_twice(document, found[1], tenant_id, document.line(("tenants", found[0])))])
    entry: dict[str, Any] | None = document.value["tenants"][found[0]] if found else None
    return entry


def remove_entry(content: bytes, file: str, tenant_id: str) -> tuple[bytes, int, int]:
    """Return a tenants.yaml without a tenant's entry, and the first and last line removed. Other lines stay the same.

    Raises InvalidInput for an entry that shares its lines or its anchors with others.
    """
    document = parse(content, file)
    entries = _entries(document)[0]
    index = [_id_of(entry) for entry in entries].index(tenant_id)
    first, last = document.line(("tenants", index)) or 1, _last_line(content, index)
    lines = content.splitlines(keepends=True)
    while first > 1 and not re.match(rb"\s*-", lines[first - 1]):
        first -= 1  # `-` on a line of its own
    left = lines[: first - 1] + lines[last:]
    if len(entries) == 1:
        key = (document.line(("tenants",)) or 1) - 1
        left = [
            re.sub(rb"^(\s*[\"']?tenants[\"']?\s*:)", rb"\1 []", line) if n == key else line
            for n, line in enumerate(left)
        ]
    try:
        remaining = parse(b"".join(left), file).value
    except InvalidInput:
        remaining = None
    if remaining != {"tenants": [*entries[:index], *entries[index + 1 :]]}:
        message = f"the entry of {tenant_id!r} can't be removed by itself: it shares lines or anchors with others"
        raise InvalidInput([Problem(file, first, "", f"{message}. Write it in lines of its own, then run again")])
    return b"".join(left), first, last


def _last_line(content: bytes, index: int) -> int:
    """Return the last line of an entry, without the comments after it."""
    root: Any = yaml.compose(content, Loader=yaml.SafeLoader)
    (entries,) = (value for key, value in root.value if key.value == "tenants")
    pending, last = [entries.value[index]], 0
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
            end = node.end_mark
            last = max(last, end.line + (end.column > 0))  # a block of text ends at the start of the next line
        elif isinstance(node, yaml.MappingNode):
            pending += [part for pair in node.value for part in pair]
        else:
            pending += node.value
    return last


def parse_tenant(value: Any, file: str, catalog: Catalog) -> Tenant:
    """Return one tenant from plain values, as in a stack's config. Raises InvalidInput with every problem."""
    tenant, problems = _tenant(Document(file, value, {}), (), catalog)
    if tenant is None or problems:
        raise InvalidInput(problems)
    return tenant


def _entries(document: Document) -> tuple[list[Any], list[Problem]]:
    value = document.value
    if not isinstance(value, dict):
        return [], [Problem(document.file, 1, "", "expected a mapping: `tenants:` with a list of tenants")]
    unknown = [
        Problem(document.file, document.line((key,)), key[:80], f"unknown field; {nearest(key, ['tenants'])}")
        for key in islice((key for key in value if key != "tenants"), MAX_PROBLEMS + 1)
    ]
    entries = value.get("tenants")
    if not isinstance(entries, list):
        line = document.line(("tenants",) if "tenants" in value else ())
        return [], [*unknown, Problem(document.file, line, "tenants", "expected a list of tenants; `[]` for none")]
    return entries, unknown


def _tenant(document: Document, path: Path, catalog: Catalog) -> tuple[Tenant | None, list[Problem]]:
    tenant, problems = validate(Tenant, document, path)
    value = document.at(path)
    if isinstance(value, dict):
        problems += islice(_not_in_catalog(value, document, path, catalog), MAX_PROBLEMS + 1)
    return tenant, [Problem(p.file, p.line, p.field, p.message, _title(value)) for p in problems]


def _twice(document: Document, index: int, name: str, first: int | None) -> Problem:
    message = f"{name!r} is already on line {first}. IDs are unique: rename or remove one of the two"
    return Problem(document.file, document.line(("tenants", index, "id")), "id", message, name)


def _in_tenant(problem: Problem, entries: list[Any]) -> Problem:
    """Return a problem of the file as one of the tenant around it."""
    top, _, place = problem.field.partition(".")
    index, _, field = place.partition(".")
    if top != "tenants" or not index.isdecimal() or int(index) >= len(entries):
        return problem
    return Problem(problem.file, problem.line, field, problem.message, _title(entries[int(index)]))


def _not_in_catalog(value: dict[str, Any], document: Document, path: Path, catalog: Catalog) -> Iterator[Problem]:
    modules = value.get("modules")
    for index, module in enumerate(modules if isinstance(modules, list) else ()):
        if isinstance(module, str) and module not in catalog.modules:
            line = document.line((*path, "modules", index))
            message = f"unknown module {shown(module)}; {nearest(module, catalog.modules)}"
            yield Problem(document.file, line, f"modules.{index}", message)
    plan = value.get("plan")
    if isinstance(plan, str) and plan not in catalog.plans:
        message = f"unknown plan {shown(plan)}; {nearest(plan, catalog.plans)}"
        yield Problem(document.file, document.line((*path, "plan")), "plan", message)


def _id_of(entry: Any) -> str | None:
    name = entry.get("id") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _title(entry: Any) -> str | None:
    """Return the id as a message shows it."""
    name = _id_of(entry)
    return name if name is None or len(name) <= 60 else f"{name[:57]}..."


def tenants_schema(catalog: Catalog) -> dict[str, Any]:
    """Return the JSON Schema of tenants.yaml for editors, with the catalog's modules and plans as choices."""
    tenant = Tenant.model_json_schema()
    tenant.pop("title")
    fields = tenant["properties"]
    notify = tenant.pop("$defs")["Notify"]
    fields["notify"] |= {"anyOf": [notify, {"type": "null"}]}
    for field in notify["properties"].values():
        field.pop("title", None)
    fields["id"] |= {"pattern": f"^{TENANT_ID}$"}
    fields["plan"] |= {"enum": list(catalog.plans)}
    fields["modules"] |= {"items": {"enum": list(catalog.modules)}, "uniqueItems": True}
    for field in fields.values():
        field.pop("title", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Kryonix tenants",
        "type": "object",
        "additionalProperties": False,
        "required": ["tenants"],
        "properties": {"tenants": {"type": "array", "items": tenant}},
    }
