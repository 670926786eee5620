// A program as an integrator writes it: only types that openapi-typescript made, nothing cast.
import createClient from "openapi-fetch";
import type { components, paths, webhooks } from "./api";

declare const process: { argv: string[] };

type Event = components["schemas"]["Event"];
type NewLead = components["schemas"]["NewLead"];
type Created = webhooks["lead.created"]["post"]["requestBody"]["content"]["application/json"];

const [url, key] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

function need<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no ${what}`);
  return value;
}

// Only the e-mail address is required.
const least: NewLead = { email: "least@example.com" };
const first = await client.POST("/v1/leads", { body: least });
const lead = need(first.data, "lead");
const name: string | null = lead.name;

const custom: NewLead = {
  email: "custom@example.com",
  name: null,
  customFields: { industry: "SaaS", seats: 40, products: ["crm"], owner: { id: 7 } },
};
const second = need((await client.POST("/v1/leads", { body: custom })).data, "second lead");
const industry: unknown = second.customFields["industry"];

// @ts-expect-error: email is required
const without: NewLead = { name: "Ann" };
// @ts-expect-error: no such status
const misspelt: NewLead = { email: "a@example.com", status: "open" };
// @ts-expect-error: email cannot be null
const cleared: components["schemas"]["LeadPatch"] = { email: null };

// Null clears a field; one that is absent is kept.
const patched = need(
  (await client.PATCH("/v1/leads/{id}", {
    params: { path: { id: second.id }, header: { "If-Match": "*" } },
    body: { title: "CTO", company: null, customFields: { seats: null, industry: "AI" } },
  })).data,
  "patched lead",
);

// All pages, by cursor.
const seen: string[] = [];
let cursor: string | undefined;
do {
  const page = need(
    (await client.GET("/v1/leads", { params: { query: { limit: 1, cursor } } })).data,
    "page",
  );
  seen.push(...page.data.map((each) => each.email));
  cursor = page.pagination.nextCursor;
} while (cursor !== undefined);

const filtered = await client.GET("/v1/leads", {
  params: { query: { customFields: { industry: "AI" }, sortBy: "score" } },
});
const found = await client.GET("/v1/leads/search", { params: { query: { q: "custom" } } });

// Errors have types too.
const again = await client.POST("/v1/leads", { body: least });
const refusal = need(again.error, "refusal").error;
const code: components["schemas"]["ErrorBody"]["code"] = refusal.code;
const holder: string | undefined = refusal.existingLeadId;
const malformed = await client.GET("/v1/leads", { params: { query: { limit: 1000 } } });
const faults = (malformed.error?.error.details ?? []).map((fault) => fault.field);

// `type` tells events apart, in the log and in the requests of webhooks.
function describe(event: Event): string {
  switch (event.type) {
    case "lead.created":
      return `${event.data.lead.email} is new`;
    case "lead.updated":
      return `${event.data.lead.email}: ${Object.keys(event.data.changes).join(", ")}`;
    case "webhook.disabled":
      return `${event.data.webhook.id}: ${event.data.webhook.statusReason}`;
    case "conversation.started":
      return event.data.conversation.channel;
    default:
      return event.type;
  }
}

function receive(body: Created): string {
  return body.data.lead.customFields["industry"] === "SaaS" ? "SaaS" : body.type;
}

let events: Event[] = [];
let after: string | undefined;
while (events.filter((event) => event.data.actor !== "scorer").length < 3) {
  const log = await client.GET("/v1/events", { params: { query: { after, wait: 5 } } });
  const page = need(log.data, "events");
  events = [...events, ...page.data];
  after = page.pagination.nextCursor;
}

console.log(JSON.stringify({
  status: first.response.status,
  names: [name, second.name],
  industry,
  title: patched.title,
  company: patched.company,
  customFields: patched.customFields,
  seen,
  filtered: filtered.data?.data.map((each) => each.email),
  hits: found.data?.data.map((each) => each.matchField),
  refused: [again.response.status, code, holder === lead.id],
  faults,
  events: events.filter((event) => event.data.actor !== "scorer").map(describe),
  received: events.flatMap((event) => (event.type === "lead.created" ? [receive(event)] : [])),
}));
