// The place in the application is the address: path and filters, so that every view is a link.
import { signal } from "@preact/signals";
import type { Kind } from "./types";

export interface Place {
  path: string;
  query: URLSearchParams;
}

const here = (): Place => ({ path: location.pathname, query: new URLSearchParams(location.search) });
export const place = signal<Place>(here());

/** Goes to an address of the application. */
export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  place.value = here();
}

/** Changes filters of this view, without a new entry of the history. An empty value removes one. */
export function filter(changes: Record<string, string>): void {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") query.delete(name);
    else query.set(name, value);
  }
  go(address(place.value.path, query), true);
}

/** The namespace that the address asks for, or undefined for all of them. */
export const chosenNamespace = (): string | undefined => place.value.query.get("ns") || undefined;

/** A path with a query, which may be empty. */
export function address(path: string, query: URLSearchParams | Record<string, string | undefined> = {}): string {
  const filled = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const text = new URLSearchParams(filled.filter((each): each is [string, string] => !!each[1])).toString();
  return text ? `${path}?${text}` : path;
}

/** The variables of `pattern` (`/policies/:ns/:name`) in `path`, or null where it is another path. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split("/");
  const given = path.replace(/(.)\/+$/, "$1").split("/");
  if (wanted.length !== given.length) return null;
  const found: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? "";
    if (!part.startsWith(":")) {
      if (part !== value) return null;
      continue;
    }
    try {
      found[part.slice(1)] = decodeURIComponent(value);
    } catch {
      return null;
    }
    if (value === "") return null;
  }
  return found;
}

/** The pages with the objects of a kind. */
const LISTS: Record<string, string> = {
  IdentityPolicy: "/policies",
  Credential: "/credentials",
  Federation: "/federations",
  RoleBinding: "/bindings",
  CredentialRequest: "/requests",
};

/** The list of a kind. */
export const listPath = (kind: Kind): string => LISTS[kind] ?? "/";

/** The page of an object, or undefined for kinds that have none. */
export function objectPath(kind: string, namespace: string, name: string): string | undefined {
  const list = LISTS[kind];
  return list && `${list}/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

/** The page that explains a decision. */
export const explainPath = (id: string): string => address("/explain", { id: id.trim().toUpperCase() });

/** The page of an object of a list: only kinds that have pages are listed. */
export const linkTo = (object: { kind: string; namespace: string; name: string }): string =>
  objectPath(object.kind, object.namespace, object.name) ?? "/";

/** Keeps clicks on links of the application inside the application. */
export function catchLinks(): void {
  addEventListener("popstate", () => {
    place.value = here();
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname.startsWith("/api/") || link.hash || /^\/[^/]+\.[a-z]+$/.test(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
