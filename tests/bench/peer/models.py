"""The peer's bodies, in and out, as Pydantic models with the limits of ours."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasGenerator, BaseModel, ConfigDict, EmailStr, Field, StringConstraints
from pydantic.alias_generators import to_camel

Status = Literal["new", "qualified", "contacted", "converted", "lost"]
Source = Literal["chat", "api", "import", "form"]
Line = Annotated[str, StringConstraints(max_length=200)]
Phone = Annotated[str, StringConstraints(max_length=50, pattern=r"^\+[0-9][0-9 ()./-]*$")]
Tags = Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=50)]
CustomFields = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Any], Field(max_length=100)
]


class Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=AliasGenerator(serialization_alias=to_camel), from_attributes=True
    )


class Input(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class NewLead(Input):
    email: EmailStr
    name: Line | None = None
    company: Line | None = None
    title: Line | None = None
    phone: Phone | None = None
    status: Status = "new"
    source: Source = "api"
    tags: Tags = Field(default_factory=list)
    custom_fields: CustomFields = Field(default_factory=dict)
    assigned_to: Line | None = None


class LeadPatch(Input):
    """A change of a lead; a field that the body leaves out is not in `model_fields_set`."""

    email: EmailStr | None = None
    name: Line | None = None
    company: Line | None = None
    title: Line | None = None
    phone: Phone | None = None
    status: Status | None = None
    source: Source | None = None
    tags: Tags | None = None
    custom_fields: CustomFields | None = None
    assigned_to: Line | None = None


class LeadOut(Wire):
    id: str
    email: str
    name: str | None
    company: str | None
    title: str | None
    phone: str | None
    status: str
    score: int
    source: str
    tags: list[str]
    custom_fields: dict[str, Any]
    first_seen_at: datetime
    last_active_at: datetime
    created_at: datetime
    updated_at: datetime


class EntryOut(BaseModel):
    id: str
    type: str
    at: datetime
    summary: str
    actor: str


class LeadDetail(Wire):
    id: str
    email: str
    name: str | None
    company: str | None
    title: str | None
    phone: str | None
    status: str
    score: int
    source: str
    tags: list[str]
    custom_fields: dict[str, Any]
    conversation_count: int
    last_intent: str | None
    assigned_to: str | None
    first_seen_at: datetime
    last_active_at: datetime
    created_at: datetime
    updated_at: datetime
    conversation_summary: str | None
    timeline: list[EntryOut]


class PageInfo(Wire):
    page: int
    limit: int
    total: int
    total_pages: int
    has_more: bool


class LeadPage(Wire):
    data: list[LeadOut]
    pagination: PageInfo
