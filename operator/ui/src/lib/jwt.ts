// A token taken apart. Nothing is verified here and nothing leaves the browser.

export interface Parts {
  header: Record<string, unknown>;
  claims: Record<string, unknown>;
  signature: string;
}

function part(text: string): Record<string, unknown> {
  const bytes = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));
  const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("not an object");
  return value as Record<string, unknown>;
}

export type Problem = "parts" | "encrypted" | "header" | "claims";

/** The parts of a signed token, or which part cannot be read. */
export function takeApart(token: string): Parts | Problem {
  const pieces = token
    .trim()
    .replace(/^Bearer\s+/i, "")
    .split(".");
  if (pieces.length === 5) return "encrypted";
  if (pieces.length !== 3) return "parts";
  let header: Record<string, unknown>;
  try {
    header = part(pieces[0] ?? "");
  } catch {
    return "header";
  }
  try {
    return { header, claims: part(pieces[1] ?? ""), signature: pieces[2] ?? "" };
  } catch {
    return "claims";
  }
}

/** The claims that are times, in seconds. */
export const TIMES = ["exp", "nbf", "iat", "auth_time"];
