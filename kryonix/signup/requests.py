"""What callers send. Names, kinds and sizes are checked here; whether it can be is `kryonix.tenants`'s to say."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from kryonix.topology.naming import TENANT_ID

__all__ = ["TENANT_ID_PATTERN", "Change", "CredentialsRequest", "NewTenant"]

TENANT_ID_PATTERN = f"^{TENANT_ID}$"
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"  # what a row of the database can hold, and a log shows as it is
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
Modules = Annotated[list[Name], Field(min_length=1, max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    def asked(self) -> dict[str, Any]:
        """As it is kept in the operation's row."""
        return self.model_dump(exclude_none=True)


class NewTenant(_Body):
    """A customer as it is to be made."""

    id: str = Field(
        pattern=TENANT_ID_PATTERN,
        description="3 to 40 characters: a lower-case letter, then lower-case letters, digits and hyphens",
        examples=["acme"],
    )
    modules: Modules = Field(description="The business modules that the customer has bought", examples=[["crm"]])
    plan: Name = Field(description="The plan, which sets the limits", examples=["basic"])
    cell: Name | None = Field(None, description="The broker that is to carry the tenant; left out, one with room")


class Change(_Body):
    """Other modules, another plan, or both; what is left out stays."""

    modules: Modules | None = Field(None, description="All the modules the tenant is to have", examples=[["crm"]])
    plan: Name | None = Field(None, description="Its plan", examples=["pro"])
    allow_delete: list[Annotated[str, Field(max_length=255, pattern=_PRINTABLE)]] | None = Field(
        None, max_length=500, description="Queues that may be deleted with the messages in them"
    )


class CredentialsRequest(_Body):
    """What opens the credentials."""

    credentials_key: str = Field(min_length=1, max_length=100, description="As the operation was answered with")
