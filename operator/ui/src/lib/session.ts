// The person who is signed in. A session that ends keeps the page: requests wait until somebody signs in again.
import { signal } from "@preact/signals";
import type { Me, Missing } from "./types";

/** The person, null before signing in, undefined while that is not known yet. */
export const me = signal<Me | null | undefined>(undefined);
/** True while the session has ended and the page waits. */
export const ended = signal(false);

let waiting: (() => void)[] = [];

/** Resolves when somebody has signed in again. */
export function signedInAgain(): Promise<void> {
  ended.value = true;
  return new Promise((resolve) => waiting.push(resolve));
}

/** Lets every request that waits go on. */
export function resume(): void {
  ended.value = false;
  const all = waiting;
  waiting = [];
  for (const each of all) each();
}

/** Undefined when `who` may do `verb` to objects of `kind`, else the permission that is missing. */
export function missing(who: Me | null | undefined, kind: string, verb: string): Missing | undefined {
  const verdict = who?.permissions[kind]?.[verb];
  if (verdict?.allowed) return undefined;
  // Without a word about it, the safe reading is that it is not allowed.
  return verdict?.missing ?? { permission: `${verb} ${kind}`, scope: "", grantedBy: [] };
}
