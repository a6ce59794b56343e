// Permissions differ by namespace: asked once for each, and again after signing in.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { whoAmI } from "./api";
import { me, missing } from "./session";
import type { Me, Missing } from "./types";

const byNamespace = signal<Record<string, Me>>({});
const asked = new Set<string>();

/** Forgets what was asked, because somebody signed in or the grants changed. */
export function forgetPermissions(): void {
  asked.clear();
  byNamespace.value = {};
}

/** Undefined when the person may; else what is missing. While it is not known yet, it is missing. */
export function useMissing(kind: string, verb: string, namespace?: string): Missing | undefined {
  useEffect(() => {
    if (!namespace || asked.has(namespace)) return;
    asked.add(namespace);
    whoAmI(namespace).then(
      (answer) => {
        byNamespace.value = { ...byNamespace.value, [namespace]: answer };
      },
      () => {
        asked.delete(namespace);
      },
    );
  }, [namespace]);
  return missing(namespace ? (byNamespace.value[namespace] ?? me.value) : me.value, kind, verb);
}
