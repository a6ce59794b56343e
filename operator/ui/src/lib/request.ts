// Requests for Credentials: what an answer is bound to, and what a key must be.
import type { RequestView } from "./types";

const hex = (bytes: ArrayBuffer): string =>
  [...new Uint8Array(bytes)].map((each) => each.toString(16).padStart(2, "0")).join("");

const sha256 = async (text: string): Promise<string> =>
  hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));

/** JSON with sorted members and no space (RFC 8785). */
export function sorted(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(sorted).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, each]) => each !== undefined);
  members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, each]) => `${JSON.stringify(name)}:${sorted(each)}`).join(",")}}`;
}

/** The hash of what is shown of a request: an answer names it. */
export function hashOf(request: RequestView): Promise<string> {
  const { name, namespace, uid, team = "", purpose, credential, requester, recipient } = request;
  const spec = { requester: { username: requester }, purpose, credential, recipient: { jwk: recipient } };
  return sha256(sorted({ name, namespace, uid, team, spec }));
}

/** Whether a key has this id: the first digits of its SHA-256. */
export async function hasId(key: string, id: string): Promise<boolean> {
  return id !== "" && (await sha256(key)).startsWith(id);
}

/** The path of a request in the API. */
export const requestAt = ({ namespace, name }: { namespace: string; name: string }): string =>
  `requests/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

/** The page of a request: of an own one, or of another's. */
export const requestPage = ({ namespace, name, mine }: { namespace: string; name: string; mine: boolean }): string =>
  `/${mine ? "my-access" : "requests"}/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

/** Nothing can be taken of it any more. */
export const isOver = (state: string): boolean => ["Rejected", "Expired", "Received", "NotReceived"].includes(state);

/** `plan=gold, tier=b` as labels; the text that is none of them otherwise. */
export function labelsOf(text: string): { name: string; value: string }[] | string {
  const labels = [];
  for (const each of text.split(/[\s,]+/).filter(Boolean)) {
    const found = /^([^=]+)=(.*)$/.exec(each);
    if (!found) return each;
    labels.push({ name: found[1] ?? "", value: found[2] ?? "" });
  }
  return labels;
}
