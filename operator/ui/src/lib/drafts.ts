// Text that somebody changed and has not saved. It stays while pages change, and is gone with the tab.
import { signal } from "@preact/signals";

export interface Draft {
  text: string;
  base: string;
  version?: string;
}

const drafts = signal<Record<string, Draft>>({});

export const draftKey = (kind: string, namespace: string, name: string): string => `${kind}/${namespace}/${name}`;
export const draftOf = (key: string): Draft | undefined => drafts.value[key];
export const hasDrafts = (): boolean => Object.values(drafts.value).some((each) => each.text !== each.base);

export function setDraft(key: string, draft: Draft): void {
  drafts.value = { ...drafts.value, [key]: draft };
}

export function dropDraft(key: string): void {
  const { [key]: _dropped, ...rest } = drafts.value;
  drafts.value = rest;
}
